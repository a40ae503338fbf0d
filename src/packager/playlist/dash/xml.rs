//! The little of XML writing that an MPD needs.

use std::fmt::Display;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, Event};

/// A document in the making. Elements nest by closure, so none is left open.
pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    pub(super) fn new() -> Self {
        let mut xml = Self(Writer::new_with_indent(Vec::with_capacity(4_096), b' ', 1));
        xml.write(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml
    }

    /// `<name attributes/>`.
    pub(super) fn leaf(&mut self, tag: Tag) {
        self.write(Event::Empty(tag.0));
    }

    /// `<name attributes>children</name>`.
    pub(super) fn nest(&mut self, tag: Tag, children: impl FnOnce(&mut Self)) {
        let end = tag.0.to_end().into_owned();
        self.write(Event::Start(tag.0));
        children(self);
        self.write(Event::End(BytesEnd::new(end.name().into_inner())));
    }

    /// An element that says what it says by scheme and value.
    pub(super) fn descriptor(&mut self, name: &'static str, scheme: &str, value: impl Display) {
        self.leaf(Tag::new(name).with("schemeIdUri", scheme).with("value", value));
    }

    pub(super) fn finish(self) -> String {
        let mut text = self.0.into_inner();
        text.push(b'\n');
        String::from_utf8(text).unwrap_or_default()
    }

    fn write(&mut self, event: Event<'_>) {
        // Writing to a Vec cannot fail.
        let _ = self.0.write_event(event);
    }
}

/// An element's name and attributes.
pub(super) struct Tag(BytesStart<'static>);

impl Tag {
    pub(super) fn new(name: &'static str) -> Self {
        Self(BytesStart::new(name))
    }

    pub(super) fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.push_attribute((name, value.to_string().as_str()));
        self
    }

    pub(super) fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// `xs:duration` of microseconds, which may not be negative here.
pub(super) fn duration(micros: i64) -> String {
    format!("PT{}S", decimal(micros))
}

/// Seconds as a decimal number without trailing zeros.
pub(super) fn decimal(micros: i64) -> String {
    let micros = micros.max(0);
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_decimal_and_exact() {
        for (micros, text) in
            [(0, "PT0S"), (215_000, "PT0.215S"), (2_000_000, "PT2S"), (3_600_000_001, "PT3600.000001S"), (-5, "PT0S")]
        {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn what_publishers_may_write_is_escaped() {
        let mut xml = Xml::new();
        xml.nest(Tag::new("A").with("lang", "\"<&>'"), |xml| xml.leaf(Tag::new("B").maybe("c", None::<u8>)));
        let text = xml.finish();
        assert!(text.contains("lang=\"&quot;&lt;&amp;&gt;"), "{text}");
        assert!(text.ends_with(" <B/>\n</A>\n"), "{text}");
    }
}
