//! What the callback says, and what of it is believed.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::media::Limits;
use crate::packager::live::Takeover;

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of an answer's words that a publisher is shown, in characters.
const MAX_WORDS: usize = 200;
/// Longest holder that an answer may name, in bytes.
const MAX_HOLDER_BYTES: usize = 128;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::control::access) struct Terms {
    /// By what the publisher is known again.
    pub(in crate::control::access) holder: Option<String>,
    /// What happens when it is there already.
    pub(in crate::control::access) takeover: Takeover,
    /// What it may bring.
    pub(in crate::control::access) limits: Limits,
}

/// Reads an answer: 2xx is yes, 4xx no, everything else nothing.
pub(super) async fn read(response: Response) -> Answer {
    let (status, content_type) = (response.status(), content_type(&response));
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
    match content_type {
        ContentType::Json if !body.is_empty() => match serde_json::from_slice::<Terms>(&body) {
            Ok(terms) if valid(&terms) => Answer::Yes(terms),
            // Terms that cannot be understood may have been limits: without them nobody is let in.
            _ => Answer::Silence("its yes comes with terms that cannot be understood"),
        },
        _ => Answer::Yes(Terms::default()),
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
    match value.split(';').next().map(str::trim) {
        Some("application/json" | "application/problem+json") => ContentType::Json,
        Some("text/plain") => ContentType::Text,
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
    use super::*;

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
    fn terms_are_read_and_wrong_ones_are_not_ignored() {
        let read = |text: &str| serde_json::from_str::<Terms>(text).ok().filter(valid);
        let terms = read(r#"{"holder": "anna", "takeover": "always", "limits": {"max_bitrate": 6000000}, "note": 1}"#);
        let limits = Limits { max_bitrate: Some(6_000_000), ..Limits::default() };
        assert_eq!(terms, Some(Terms { holder: Some("anna".into()), takeover: Takeover::Always, limits }));
        for wrong in [
            r#"{"limits": {"max_bitrat": 1}}"#,
            r#"{"limits": {"max_bitrate": "1"}}"#,
            r#"{"limits": {"max_bitrate": 0}}"#,
            r#"{"takeover": "sometimes"}"#,
            r#"{"holder": ""}"#,
            r#"{"holder": "a\nb"}"#,
            "0",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
