//! Signed tokens: nothing that we did not sign is good, and what is signed is good for no more than it says.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::control::token::{self, Action, Claims, TokenError};
use rillcast::media::WallTime;
use ring::hmac;

fuzz_target!(|data: &[u8]| {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
    let now = WallTime::from_micros(1_700_000_000_000_000);
    let text = String::from_utf8_lossy(data);
    // As it is: nobody has signed it.
    assert_eq!(token::verify(std::slice::from_ref(&key), &text, now), Err(TokenError::Invalid));

    // Signed: whatever the header and the claims say, they are read after the signature, and by our rules.
    let Some((header, claims)) = text.split_once('\n') else { return };
    let signed = format!("{}.{}", base64(header), base64(claims));
    let tag = hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", base64(tag.as_ref()));
    match token::verify(std::slice::from_ref(&key), &token, now) {
        Err(TokenError::Invalid) => assert!(token.len() > token::MAX_BYTES),
        Err(_) => {}
        Ok(claims) => check(&claims, now),
    }
});

fn check(claims: &Claims, now: WallTime) {
    let seconds = now.millis() / 1_000;
    assert!(claims.exp > seconds - 31 && claims.exp <= seconds + token::MAX_LIFETIME);
    assert!(claims.sub.as_ref().is_none_or(|subject| subject.len() <= 64));
    let peer = "192.0.2.1".parse().expect("an address");
    let name = "live/me".parse().expect("a name");
    let may = |action| claims.allow(action, &name, peer).is_ok();
    assert!(!(may(Action::Watch) && may(Action::Publish)), "a token is for one thing");
    if may(claims.action) {
        assert!(claims.stream.matches(&name) && claims.ip.is_none_or(|range| range.contains(peer)));
    }
    // Ours again.
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let again = token::sign(&key, claims);
    if again.len() <= token::MAX_BYTES {
        assert_eq!(token::verify(&[key], &again, now).as_ref(), Ok(claims));
    }
}

/// RFC 4648 §5, without padding.
fn base64(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.as_ref().chunks(3) {
        let word = three.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}
