//! The trace that a request says it belongs to.
//!
//! Specification: W3C Trace Context, §3.2 (`traceparent`).

use http::HeaderMap;

/// Bytes of a `traceparent` of version 00. Later versions may have more behind a dash.
const LENGTH: usize = 55;

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent<'a> {
    /// 32 hexadecimal digits.
    pub trace: &'a str,
    /// The caller's span: 16 hexadecimal digits.
    pub span: &'a str,
}

/// Reads `traceparent`. What breaks a rule is as good as absent (§4.1), and whoever sends it twice has broken one.
pub fn parent(headers: &HeaderMap) -> Option<Parent<'_>> {
    let mut all = headers.get_all("traceparent").iter();
    let (value, None) = (all.next()?, all.next()) else { return None };
    let text = value.to_str().ok()?;
    let head = text.get(..LENGTH)?;
    let mut fields = head.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |field: &str, length| {
        field.len() == length && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |field: &str| field.bytes().any(|byte| byte != b'0');
    let exact = text.len() == LENGTH || version != "00" && text.as_bytes().get(LENGTH) == Some(&b'-');
    let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (sound && exact && version != "ff" && some(trace) && some(span)).then_some(Parent { trace, span })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn read(values: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", HeaderValue::from_str(value).expect("a header's value"));
        }
        parent(&headers).map(|parent| (parent.trace.to_owned(), parent.span.to_owned()))
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        let good = Some((TRACE.to_owned(), SPAN.to_owned()));
        assert_eq!(read(&[&format!("00-{TRACE}-{SPAN}-01")]), good);
        assert_eq!(read(&[&format!("cc-{TRACE}-{SPAN}-01-what-will-be")]), good, "a later version");
        for bad in [
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01more"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}{SPAN}--01"),
            "é".repeat(27) + "x",
            String::new(),
        ] {
            assert_eq!(read(&[&bad]), None, "{bad}");
        }
        let line = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&[&line, &line]), None);
        assert_eq!(read(&[]), None);
    }
}
