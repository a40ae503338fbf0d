//! What the callback says, and what of it is believed.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::control::json::Object;
use crate::media::{Limits, Takeover};

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of an answer's words that a publisher is shown, in characters.
const MAX_WORDS: usize = 200;
/// Longest holder that an answer may name, in bytes.
const MAX_HOLDER_BYTES: usize = 128;

const UNCLEAR: &str = "its yes comes with terms that cannot be understood";

/// What the callback said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control::access) enum Answer {
    /// Let it in.
    Yes(Terms),
    /// Do not, and tell it so.
    No(String),
    /// Nothing.
    Silence(&'static str),
}

/// What an answer may add to a yes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::control::access) struct Terms {
    /// By what the publisher is known again.
    pub(in crate::control::access) holder: Option<String>,
    /// What happens when it is there already.
    pub(in crate::control::access) takeover: Takeover,
    /// What it may bring.
    pub(in crate::control::access) limits: Limits,
}

/// A body of JSON. What is unknown is an error: a mistyped limit would be no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Said {
    /// False is no, whatever the status.
    allow: Option<bool>,
    holder: Option<String>,
    takeover: Option<Takeover>,
    limits: Option<Object<Limits>>,
    detail: Option<String>,
    words: Option<String>,
    message: Option<String>,
}

/// Reads an answer: 2xx is yes, 4xx no, everything else nothing.
pub(super) async fn read(response: Response) -> Answer {
    let (status, content_type) = (response.status(), content_type(&response));
    let is_encoded = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if status.is_redirection() {
        return Answer::Silence("it answered with a redirect, which is not followed");
    }
    // These two are about the asking, not about the publisher.
    let no = status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if !status.is_success() && !no {
        return Answer::Silence("it answered with an error of its own");
    }
    let Some(body) = read_body(response).await else { return Answer::Silence("its answer breaks off, or is too long") };
    if no {
        return Answer::No(words(content_type, &body));
    }
    if is_encoded && !body.is_empty() {
        return Answer::Silence("its yes is compressed, which was not asked for");
    }
    yes(content_type, &body)
}

/// Reads the body of an answer of 2xx.
fn yes(content_type: ContentType, body: &[u8]) -> Answer {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    // Frameworks that are not told otherwise call JSON text.
    let is_json = content_type == ContentType::Json || body.first() == Some(&b'{');
    if body.is_empty() || !is_json {
        return Answer::Yes(Terms::default());
    }
    match serde_json::from_slice::<Object<Said>>(body) {
        Ok(Object(Said { allow: Some(false), .. })) => Answer::No(words(ContentType::Json, body)),
        Ok(Object(said)) => {
            let limits = said.limits.map(|Object(limits)| limits).unwrap_or_default();
            let takeover = said.takeover.unwrap_or_default();
            let terms = Terms { holder: said.holder, takeover, limits };
            if valid(&terms) { Answer::Yes(terms) } else { Answer::Silence(UNCLEAR) }
        }
        // Terms that cannot be understood may have been limits: without them nobody is let in.
        Err(_) => Answer::Silence(UNCLEAR),
    }
}

/// What a body is, as far as words are looked for in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentType {
    Json,
    Text,
    Other,
}

fn content_type(response: &Response) -> ContentType {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    media_type(value)
}

/// Media types are compared without their case (RFC 9110 §8.3.1); `+json` is JSON (RFC 6839 §3.1).
fn media_type(value: &str) -> ContentType {
    let kind = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" | "text/json" => ContentType::Json,
        _ if kind.ends_with("+json") => ContentType::Json,
        "text/plain" => ContentType::Text,
        _ => ContentType::Other,
    }
}

async fn read_body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER_BYTES {
            return None;
        }
    }
    Some(body)
}

/// What a publisher is told: plain text, or `detail`, `words` or `message` of JSON.
fn words(content_type: ContentType, body: &[u8]) -> String {
    let json = || serde_json::from_slice::<serde_json::Value>(body).ok();
    let found = match content_type {
        ContentType::Json => json().and_then(|json| {
            let field = |name| json.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            field("detail").or_else(|| field("words")).or_else(|| field("message"))
        }),
        ContentType::Text => std::str::from_utf8(body).ok().map(str::to_owned),
        ContentType::Other => None,
    };
    let found: String = found.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    if found.trim().is_empty() { "publishing is not allowed here".into() } else { found.trim().into() }
}

fn valid(terms: &Terms) -> bool {
    let plain =
        |holder: &String| (1..=MAX_HOLDER_BYTES).contains(&holder.len()) && !holder.chars().any(char::is_control);
    terms.holder.as_ref().is_none_or(plain) && terms.limits.validate().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes, and objects of the fields that we know with values that may be theirs.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let field = "allow|holder|takeover|limits|detail|words|message|max_bitrate|x";
        let value =
            r#""([a-z ]|\\u0007){0,300}"|"always"|true|false|null|-?[0-9]{1,25}|\[\]|\{("max_bitrate":[0-9]{1,12})?\}"#;
        let field = format!(r#""({field})":({value})"#);
        let object = format!(r"\{{({field},){{0,3}}{field}\}}");
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            proptest::string::string_regex(&object).expect("an expression").prop_map(String::into_bytes),
        ]
    }

    proptest! {
        /// The part of a fuzz target, which would have to hold an HTTP client.
        #[test]
        fn whatever_is_answered_lets_nobody_in_by_mistake_and_its_words_are_harmless(
            body in bodies(),
            kind in prop_oneof![Just(ContentType::Json), Just(ContentType::Text), Just(ContentType::Other)],
        ) {
            let allow = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|json| json.get("allow")?.as_bool());
            match yes(kind, &body) {
                Answer::Yes(terms) => prop_assert!(allow != Some(false) && valid(&terms)),
                Answer::No(words) => {
                    prop_assert_eq!(allow, Some(false));
                    prop_assert!((1..=MAX_WORDS).contains(&words.chars().count()));
                    prop_assert!(!words.chars().any(char::is_control), "{:?}", words);
                }
                Answer::Silence(_) => {}
            }
        }
    }

    #[test]
    fn words_of_a_refusal_are_found_and_made_harmless() {
        for (kind, body, wanted) in [
            (ContentType::Text, "no money\r\n, no show", "no money, no show"),
            (ContentType::Json, r#"{"detail": "banned", "message": "x"}"#, "banned"),
            (ContentType::Json, r#"{"message": "gone"}"#, "gone"),
            (ContentType::Json, "[", "publishing is not allowed here"),
            (ContentType::Other, "<html>", "publishing is not allowed here"),
            (ContentType::Text, " ", "publishing is not allowed here"),
        ] {
            assert_eq!(words(kind, body.as_bytes()), wanted);
        }
        assert_eq!(words(ContentType::Text, "x".repeat(10_000).as_bytes()).len(), MAX_WORDS);
    }

    #[test]
    fn terms_are_read_and_wrong_ones_let_nobody_in() {
        let limits = Limits { max_bitrate: Some(6_000_000), ..Limits::default() };
        let text = r#" {"allow": true, "holder": "anna", "takeover": "always", "limits": {"max_bitrate": 6000000}} "#;
        let terms = Answer::Yes(Terms { holder: Some("anna".into()), takeover: Takeover::Always, limits });
        for kind in [ContentType::Json, ContentType::Text, ContentType::Other] {
            assert_eq!(yes(kind, text.as_bytes()), terms, "{kind:?}");
            assert_eq!(yes(kind, format!("\u{feff}{text}").as_bytes()), terms, "{kind:?} with a byte order mark");
            assert_eq!(yes(kind, b" \n"), Answer::Yes(Terms::default()), "{kind:?}");
            assert_eq!(yes(kind, br#"{"limits": null, "holder": null}"#), Answer::Yes(Terms::default()), "{kind:?}");
            assert_eq!(yes(kind, br#"{"allow": false, "words": "banned"}"#), Answer::No("banned".into()), "{kind:?}");
            for wrong in [
                r#"{"limit": {"max_bitrate": 1}}"#,
                r#"{"limits": {"max_bitrat": 1}}"#,
                r#"{"limits": {"max_bitrate": "1"}}"#,
                r#"{"limits": {"max_bitrate": 0}}"#,
                r#"{"takeover": "sometimes"}"#,
                r#"{"holder": ""}"#,
                r#"{"holder": "a\nb"}"#,
                r#"{"allow": "no"}"#,
                r#"{"limits": [100]}"#,
                "{",
            ] {
                assert_eq!(yes(kind, wrong.as_bytes()), Answer::Silence(UNCLEAR), "{kind:?} {wrong}");
            }
        }
        assert_eq!(yes(ContentType::Text, b"OK"), Answer::Yes(Terms::default()));
        for wrong in [&b"0"[..], b"[]", b"[true]", b"null"] {
            assert_eq!(yes(ContentType::Json, wrong), Answer::Silence(UNCLEAR));
        }
    }

    #[test]
    fn json_is_known_by_each_of_its_names() {
        for name in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/json",
            "application/vnd.x+JSON",
            "application/problem+json",
        ] {
            assert_eq!(media_type(name), ContentType::Json, "{name}");
        }
        assert_eq!(media_type("TEXT/plain;charset=utf-8"), ContentType::Text);
        assert_eq!(media_type("text/html"), ContentType::Other);
    }
}
