//! Signed tokens that expire: a JSON Web Token with one algorithm, HS256.
//!
//! The algorithm is ours to name, never the token's: the signature is verified first, by HMAC-SHA256, and a token whose header says anything
//! else is refused after that. Nothing of a token is parsed before its signature was found good.
//!
//! Specifications: RFC 7515 (JWS, compact serialisation), RFC 7518 §3.2 (HS256), RFC 7519 (JWT), RFC 8725 (best practices).

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize};

use super::pattern::{IpRange, StreamPattern};
use crate::media::{StreamName, WallTime};

/// Longest token that is looked at. Ours have some 200 bytes.
pub const MAX_BYTES: usize = 1024;
/// How far clocks may be apart, seconds.
const LEEWAY: i64 = 30;
/// Furthest end that is taken at its word, seconds: a token without an end in sight is a key, and keys can be revoked.
pub const MAX_LIFETIME: i64 = 400 * 24 * 3600;
/// Longest `sub`.
const MAX_SUBJECT: usize = 64;

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Publish a stream.
    Publish,
    /// Watch it.
    Watch,
}

/// What a token says. Claims that are not listed mean nothing to us and are no error: libraries add `iat` and others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// What for.
    pub action: Action,
    /// Of which stream or streams.
    pub stream: StreamPattern,
    /// When it ends, Unix seconds.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: i64,
    /// When it begins, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_numeric_date")]
    pub nbf: Option<i64>,
    /// From where alone it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpRange>,
    /// Who it was made for: two publish tokens with the same subject are the same person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
}

/// What comes before the claims. `crit` names extensions that must be understood; we understand none.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
}

/// Whom a token is for. We have no name, so that none with one is for us. Spec: RFC 7519 §4.1.3.
#[derive(Debug, Deserialize)]
struct Audience {
    #[serde(default)]
    aud: Option<serde_json::Value>,
}

/// Unix seconds, whose fraction is dropped. Spec: RFC 7519 §2, NumericDate.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    // A cast saturates, which is beyond every limit.
    let date = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
    date.ok_or_else(|| serde::de::Error::custom("no date"))
}

fn some_numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    numeric_date(deserializer).map(Some)
}

/// Why a token is refused; the text is shown to its bearer, and tells a forger nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not signed by one of the secrets, or no token at all.
    #[error("the token is not one that this server takes")]
    Invalid,
    /// Signed, but not as it should be.
    #[error("the token is signed, but its {0}")]
    Claims(&'static str),
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Not begun.
    #[error("the token is not good yet")]
    Early,
    /// For something else.
    #[error("the token is for another stream, or for something else than this")]
    Other,
    /// For someone else.
    #[error("the token cannot be used from this address")]
    NotFromHere,
}

/// Signs `claims`.
pub fn sign(key: &hmac::Key, claims: &Claims) -> String {
    let header = Header { alg: String::from("HS256"), typ: Some(String::from("JWT")), crit: None };
    // Both are made of strings and numbers, which JSON can always write.
    let encode = |json: serde_json::Result<Vec<u8>>| URL_SAFE_NO_PAD.encode(json.unwrap_or_default());
    let signed = format!("{}.{}", encode(serde_json::to_vec(&header)), encode(serde_json::to_vec(claims)));
    let tag = hmac::sign(key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Verifies the signature and the times of `token` at `now`. Which of `keys` signed it, and how much of the signature is right, cannot be told
/// from how long it takes.
///
/// # Errors
/// [`TokenError`].
pub fn verify(keys: &[hmac::Key], token: &str, now: WallTime) -> Result<Claims, TokenError> {
    if token.len() > MAX_BYTES {
        return Err(TokenError::Invalid);
    }
    let (signed, tag) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Invalid)?;
    let mut good = false;
    for key in keys {
        good |= hmac::verify(key, signed.as_bytes(), &tag).is_ok();
    }
    if !good {
        return Err(TokenError::Invalid);
    }
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Claims("parts are not three"))?;
    let header: Header = json(header).ok_or(TokenError::Claims("header cannot be read"))?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(TokenError::Claims("header asks for something else than HS256"));
    }
    if json::<Audience>(claims).is_some_and(|audience| audience.aud.is_some()) {
        return Err(TokenError::Claims("audience (aud) is somebody else"));
    }
    let claims: Claims = json(claims).ok_or(TokenError::Claims("claims cannot be read"))?;
    let now = now.millis().div_euclid(1_000);
    if claims.exp.saturating_add(LEEWAY) <= now {
        return Err(TokenError::Expired);
    }
    if claims.exp > now.saturating_add(MAX_LIFETIME) {
        return Err(TokenError::Claims("end is more than 400 days away"));
    }
    if claims.nbf.is_some_and(|begin| begin.saturating_sub(LEEWAY) > now) {
        return Err(TokenError::Early);
    }
    let plain = |subject: &String| subject.len() <= MAX_SUBJECT && !subject.chars().any(char::is_control);
    if !claims.sub.as_ref().is_none_or(plain) {
        return Err(TokenError::Claims("subject is longer than 64 bytes, or no plain text"));
    }
    Ok(claims)
}

impl Claims {
    /// Whether a bearer at `peer` may do `action` with `stream`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn allow(&self, action: Action, stream: &StreamName, peer: IpAddr) -> Result<(), TokenError> {
        if self.action != action || !self.stream.matches(stream) {
            return Err(TokenError::Other);
        }
        match self.ip {
            Some(range) if !range.contains(peer) => Err(TokenError::NotFromHere),
            _ => Ok(()),
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn claims() -> Claims {
        let stream = "live/me".parse().expect("a pattern");
        Claims { action: Action::Watch, stream, exp: 2_000_000_000, nbf: None, ip: None, sub: None }
    }

    fn at(seconds: i64) -> WallTime {
        WallTime::from_micros(seconds * 1_000_000)
    }

    /// A token of any header and claims, signed.
    fn forged(header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&key(SECRET), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    #[test]
    fn any_jwt_library_makes_tokens_for_us() {
        // By openssl: printf '%s' '{"alg":"HS256","typ":"JWT"}' | basenc --base64url | tr -d =, and so on, then dgst -sha256 -hmac.
        let token = concat!(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
            "eyJhY3Rpb24iOiJ3YXRjaCIsInN0cmVhbSI6ImxpdmUvbWUiLCJleHAiOjIwMDAwMDAwMDB9.",
            "EehPsciY0x9rl5Nhp2KXJeJ1p0nXyP_LHlYei60CnAk"
        );
        assert_eq!(verify(&[key(SECRET)], token, at(1_990_000_000)), Ok(claims()));
        assert_eq!(sign(&key(SECRET), &claims()), token);
    }

    #[test]
    fn every_secret_in_force_verifies_and_no_other() {
        let token = sign(&key(SECRET), &claims());
        let now = at(1_990_000_000);
        assert!(verify(&[key(b"newer"), key(SECRET)], &token, now).is_ok());
        assert_eq!(verify(&[key(b"newer")], &token, now), Err(TokenError::Invalid));
        assert_eq!(verify(&[], &token, now), Err(TokenError::Invalid));
    }

    #[test]
    fn times_are_held_with_half_a_minute_of_leeway() {
        let keys = [key(SECRET)];
        let token = sign(&key(SECRET), &Claims { nbf: Some(1_999_990_000), ..claims() });
        for (now, wanted) in [
            (1_999_989_969, Err(TokenError::Early)),
            (1_999_989_970, Ok(())),
            (2_000_000_029, Ok(())),
            (2_000_000_030, Err(TokenError::Expired)),
        ] {
            assert_eq!(verify(&keys, &token, at(now)).map(drop), wanted, "{now}");
        }
    }

    #[test]
    fn it_is_good_for_what_it_names() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let name = |text: &str| text.parse::<StreamName>().expect("a name");
        let one = Claims { ip: Some("192.0.2.0/24".parse().expect("a range")), ..claims() };
        let (here, elsewhere) = (ip("192.0.2.1"), ip("198.51.100.1"));
        assert_eq!(one.allow(Action::Watch, &name("live/me"), here), Ok(()));
        assert_eq!(one.allow(Action::Watch, &name("live/me"), elsewhere), Err(TokenError::NotFromHere));
        assert_eq!(one.allow(Action::Publish, &name("live/me"), here), Err(TokenError::Other));
        assert_eq!(one.allow(Action::Watch, &name("live/you"), here), Err(TokenError::Other));
        let all = Claims { stream: "live/*".parse().expect("a pattern"), ..claims() };
        assert_eq!(all.allow(Action::Watch, &name("live/you"), elsewhere), Ok(()));
    }

    /// RELIABILITY row 105.
    #[test]
    fn confused_and_oversized_tokens_are_refused() {
        let now = at(1_990_000_000);
        let verify = |token: &str| verify(&[key(SECRET)], token, now).map(drop);
        let good = r#"{"action":"watch","stream":"live/me","exp":2000000000}"#;
        assert_eq!(
            verify(&forged(r#"{"alg":"HS256","kid":"../../etc/passwd","iat":1}"#, good)),
            Ok(()),
            "kid names nothing"
        );
        let fractions = good.replace("2000000000", "2000000000.75,\"nbf\":1989999999.5");
        assert_eq!(verify(&forged(r#"{"alg":"HS256"}"#, &fractions)), Ok(()), "dates may have fractions");
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            "",
        ] {
            assert!(matches!(verify(&forged(header, good)), Err(TokenError::Claims(_))), "{header}");
        }
        for claims in [
            r#"{"action":"watch","stream":"live/me"}"#,
            r#"{"action":"watch","stream":"live/me","exp":"2000000000"}"#,
            r#"{"action":"watch","stream":"live/me","exp":1e999}"#,
            r#"{"action":"watch","stream":"live/me","exp":1e300}"#,
            r#"{"action":"watch","stream":"live/me","exp":2000000000,"aud":"another"}"#,
            r#"{"action":"watch","stream":"live/me","exp":2000000000,"aud":["rillcast"]}"#,
            r#"{"action":"watch","stream":"live/me","exp":2000000000,"nbf":"never"}"#,
            r#"{"action":"watch","stream":"live/me","exp":253402300799}"#,
            r#"{"action":"all","stream":"live/me","exp":2000000000}"#,
            r#"{"action":"watch","stream":"*","exp":2000000000}"#,
            r#"{"action":"watch","stream":"live/me","exp":2000000000,"exp":2000000001}"#,
            r#"{"action":"watch","stream":"live/me","exp":2000000000,"sub":"\n"}"#,
        ] {
            assert!(matches!(verify(&forged(r#"{"alg":"HS256"}"#, claims)), Err(TokenError::Claims(_))), "{claims}");
        }
        assert_eq!(verify(&forged(r#"{"alg":"HS256"}"#, &good.replace("2000000000", "0"))), Err(TokenError::Expired));
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(good));
        let long = "a".repeat(1 << 20);
        for token in ["", ".", "..", "a.b.c", none.as_str(), long.as_str()] {
            assert_eq!(verify(token), Err(TokenError::Invalid));
        }
    }

    proptest::proptest! {
        #[test]
        fn one_changed_character_makes_it_invalid(place in 0_usize..150, to in "[A-Za-z0-9_.-]") {
            let token = sign(&key(SECRET), &claims());
            let mut changed = token.clone();
            let place = place % token.len();
            changed.replace_range(place..=place, &to);
            // The last character of the signature carries two bits of nothing, which the decoder wants to be zero.
            let verified = verify(&[key(SECRET)], &changed, at(1_990_000_000));
            proptest::prop_assert_eq!(verified.is_ok(), changed == token);
        }
    }
}
