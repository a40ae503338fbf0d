//! The `connect` command: which application, through which URL, by which encoder.

use super::amf0::Value;
use crate::ingest::publish::Credential;

/// Longest application name or URL that is looked at; the application itself may have 128 bytes, the rest is query.
const MAX_TEXT_BYTES: usize = 2_048;

/// What `connect` said that is of use later.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Connect {
    /// The application without slashes at its ends and without query.
    pub app: String,
    /// The encoder as it calls itself, for logs.
    pub encoder: String,
    /// The query of the application or the URL, where one was given: some encoders have no field for a stream key.
    query: String,
    /// FourCCs that the encoder can send by Enhanced RTMP. Read for the log; none is negotiated yet.
    pub four_cc: Vec<String>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query may hold a key.
        f.debug_struct("Connect").field("app", &self.app).field("encoder", &self.encoder).finish_non_exhaustive()
    }
}

impl Connect {
    /// Reads the command object. What is missing is empty; a bad application name is refused when publishing, in words.
    pub fn read(object: &Value) -> Self {
        let property = |name| object.property(name).and_then(Value::text).filter(|text| text.len() <= MAX_TEXT_BYTES);
        let (app, app_query) = split_query(property("app").unwrap_or(""));
        let (_, url_query) = split_query(property("tcUrl").unwrap_or(""));
        let four_cc = match object.property("fourCcList") {
            Some(Value::Array(list)) => {
                list.iter().take(32).filter_map(Value::text).filter(|code| code.len() == 4).map(Into::into).collect()
            }
            _ => Vec::new(),
        };
        Self {
            app: app.trim_matches('/').to_owned(),
            encoder: property("flashVer").unwrap_or("").chars().take(64).filter(|c| !c.is_control()).collect(),
            query: if app_query.is_empty() { url_query } else { app_query }.to_owned(),
            four_cc,
        }
    }

    /// The stream name and the credential of a stream key: `NAME`, `NAME?key=…`, `NAME?token=…`. Without a query of its own, that of the
    /// application or the URL counts.
    pub fn stream_key<'a>(&self, key: &'a str) -> (&'a str, Credential) {
        let (name, query) = split_query(key);
        let credential = match credential(query) {
            Credential::None => credential(&self.query),
            found => found,
        };
        (name, credential)
    }

    /// All that was written behind the question mark: of the stream key where it has a query, else of the application or the URL.
    pub fn query<'a>(&'a self, key: &'a str) -> &'a str {
        match split_query(key) {
            (_, "") => &self.query,
            (_, query) => query,
        }
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn credential(query: &str) -> Credential {
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value.to_owned()).next()
    };
    match (value("key"), value("token")) {
        (Some(key), _) => Credential::Key(key),
        (None, Some(token)) => Credential::Token(token),
        (None, None) => Credential::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(app: &str, url: &str) -> Connect {
        let text = |text: &str| Value::String(text.into());
        Connect::read(&Value::Object(vec![("app".into(), text(app)), ("tcUrl".into(), text(url))]))
    }

    #[test]
    fn applications_lose_slashes_and_queries() {
        for app in ["live", "live/", "/live", "live?key=x", "live/?a=b"] {
            assert_eq!(connect(app, "").app, "live", "{app}");
        }
        assert_eq!(connect(&"x".repeat(3_000), "").app, "");
    }

    #[test]
    fn the_credential_nearest_to_the_name_counts() {
        let key = |text: &str| Credential::Key(text.into());
        let token = |text: &str| Credential::Token(text.into());
        for (app, url, name, expected) in [
            ("live", "", "me", Credential::None),
            ("live", "", "me?key=rk_1", key("rk_1")),
            ("live", "", "me?token=a.b=", token("a.b=")),
            ("live", "", "me?token=t&key=k", key("k")),
            ("live", "", "me?key=", Credential::None),
            ("live?key=2", "rtmp://h/live?key=3", "me", key("2")),
            ("live", "rtmp://h/live?token=3", "me?x", token("3")),
            ("live?key=2", "", "me?token=1", token("1")),
            ("live", &format!("rtmp://h/live?key={}", "x".repeat(MAX_TEXT_BYTES)), "me", Credential::None),
        ] {
            assert_eq!(connect(app, url).stream_key(name), ("me", expected), "{app} {url} {name}");
        }
        assert_eq!(connect("live?key=2", "").query("me"), "key=2");
        assert_eq!(connect("live?key=2", "").query("me?user=a&pass=b"), "user=a&pass=b");
    }
}
