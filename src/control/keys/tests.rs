//! Who is let in, and what the file holds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::media::{Limits, Takeover};

const NOW: WallTime = WallTime::from_micros(0);

fn store() -> (tempfile::TempDir, KeyStore) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = KeyStore::new(dir.path());
    (dir, store)
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a good name")
}

fn add(store: &KeyStore, stream: &str) -> Result<NewKey, Error> {
    store.add(&stream.parse().expect("a pattern"), Conditions::default(), NOW)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn secret(new: &NewKey) -> &str {
    new.paste.split_once("?key=").expect("a key").1
}

#[test]
fn without_keys_publishing_is_open_to_this_machine_alone() {
    let (_dir, store) = store();
    for (peer, open) in
        [("127.0.0.1", true), ("127.8.8.8", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
    {
        assert_eq!(store.authorise(&name("live/me"), None, ip(peer), NOW).is_ok(), open, "{peer}");
        assert_eq!(store.authorise(&name("live/me"), Some("rk_x"), ip(peer), NOW).is_ok(), open, "{peer}");
    }
}

#[test]
fn with_keys_the_streams_own_one_is_needed() {
    let (_dir, store) = store();
    let me = add(&store, "live/me").expect("added");
    let you = add(&store, "live/you").expect("added");
    assert!(me.paste.starts_with("me?key=rk_"));
    assert_eq!(secret(&me).len(), 3 + 43);
    let ask = |stream, key, peer| store.authorise(&name(stream), key, ip(peer), NOW);
    assert!(ask("live/me", Some(secret(&me)), "10.0.0.1").is_ok());
    assert!(matches!(ask("live/me", Some(secret(&you)), "10.0.0.1"), Err(Denied::WrongKey(_))));
    assert!(matches!(ask("live/me", None, "127.0.0.1"), Err(Denied::KeyNeeded(_))));
    assert!(matches!(ask("live/me", Some(""), "127.0.0.1"), Err(Denied::WrongKey(_))));
    assert!(matches!(ask("live/other", Some(secret(&me)), "10.0.0.1"), Err(Denied::LoopbackOnly(_))));
    assert!(ask("live/other", None, "127.0.0.1").is_ok());
    assert!(!format!("{me:?}").contains("rk_"), "secrets stay out of logs");
}

#[test]
fn a_change_by_another_process_is_noticed() {
    let (dir, server) = store();
    let command_line = KeyStore::new(dir.path());
    let new = add(&command_line, "live/me").expect("added");
    assert!(server.authorise(&name("live/me"), Some(secret(&new)), ip("10.0.0.1"), NOW).is_ok());
    let second = add(&command_line, "live/me").expect("added");
    assert!(server.authorise(&name("live/me"), Some(secret(&second)), ip("10.0.0.1"), NOW).is_ok());
    assert_eq!(command_line.revoke("none").expect("readable"), None);
    assert_eq!(
        command_line
            .revoke(&new.id)
            .expect("revoked")
            .map(|revoked| matches!(revoked, Revoked::Stream(key) if key.id == new.id)),
        Some(true)
    );
    assert!(server.authorise(&name("live/me"), Some(secret(&new)), ip("10.0.0.1"), NOW).is_err());
    assert!(server.authorise(&name("live/me"), Some(secret(&second)), ip("10.0.0.1"), NOW).is_ok());
    assert_eq!(server.list().expect("readable").len(), 1);
}

#[test]
fn the_file_is_private_and_holds_no_key() {
    let (dir, store) = store();
    let new = add(&store, "live/me").expect("added");
    let path = dir.path().join("keys.json");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&path).expect("text").contains(secret(&new)));
}

#[test]
fn a_corrupt_file_lets_nobody_in_and_is_kept() {
    let (dir, store) = store();
    let path = dir.path().join("keys.json");
    for text in ["", "{", "[]", r#"{"version": 2, "keys": []}"#, r#"{"version": 1, "keys": [], "x": 1}"#] {
        fs::write(&path, text).expect("written");
        assert!(matches!(add(&store, "live/me"), Err(Error::Corrupt { .. })), "{text}");
        assert!(
            matches!(store.authorise(&name("live/me"), None, ip("127.0.0.1"), NOW), Err(Denied::Store(_))),
            "{text}"
        );
        assert_eq!(fs::read_to_string(&path).expect("text"), text);
    }
}

#[test]
fn what_a_crash_left_does_not_stand_in_the_way() {
    let (dir, store) = store();
    fs::write(dir.path().join("keys.tmp"), "half").expect("written");
    add(&store, "live/me").expect("added");
    assert_eq!(store.list().expect("readable").len(), 1);
}

#[test]
fn a_file_of_an_older_version_is_read_and_a_newer_one_is_not_misread() {
    let (dir, store) = store();
    let path = dir.path().join("keys.json");
    let digest = "0".repeat(64);
    let old = format!(r#""id": "a", "stream": "live/me", "sha256": "{digest}", "created": "2026-01-01T00:00:00.000Z""#);
    fs::write(&path, format!(r#"{{"version": 1, "keys": [{{{old}}}]}}"#)).expect("written");
    assert_eq!(store.list().expect("readable").first().map(|key| key.conditions.clone()), Some(Conditions::default()));
    for unknown in [r#", "conditions": {"max_viewers": 3}"#, r#", "limit": 1"#] {
        fs::write(&path, format!(r#"{{"version": 1, "keys": [{{{old}{unknown}}}]}}"#)).expect("written");
        assert!(matches!(store.list(), Err(Error::Corrupt { .. })), "a condition that is not known is not ignored");
    }
}

#[test]
fn a_key_of_an_application_is_good_for_each_of_its_streams() {
    let (_dir, store) = store();
    let all = add(&store, "live/*").expect("added");
    assert!(all.paste.starts_with("NAME?key=rk_"));
    let ask = |stream, key| store.authorise(&name(stream), key, ip("127.0.0.1"), NOW);
    assert!(ask("live/me", Some(secret(&all))).is_ok() && ask("live/you", Some(secret(&all))).is_ok());
    assert!(matches!(ask("live/me", None), Err(Denied::KeyNeeded(_))));
    assert!(matches!(ask("other/me", None), Ok(None)));
}

#[test]
fn conditions_are_kept_and_held() {
    let (_dir, store) = store();
    let limits =
        Limits { max_bitrate: Some(8_000_000), max_duration: Some(Duration::from_secs(7_200)), ..Limits::default() };
    let conditions = Conditions {
        expires: Some("1970-01-01T00:01:00Z".into()),
        takeover: Takeover::Always,
        allow: vec!["192.0.2.0/24".parse().expect("a range")],
        max_publishers: Some(2),
        limits,
    };
    let pattern = "live/me".parse().expect("a pattern");
    let new = store.add(&pattern, conditions.clone(), NOW).expect("added");
    let ask = |peer, at| store.authorise(&name("live/me"), Some(secret(&new)), ip(peer), WallTime::from_micros(at));
    let key = ask("192.0.2.9", 59_000_000).expect("good").expect("a key");
    assert_eq!(key.conditions, conditions);
    assert!(matches!(ask("192.0.3.9", 59_000_000), Err(Denied::NotFromHere(..))));
    assert!(matches!(ask("192.0.2.9", 60_000_000), Err(Denied::Expired(..))));
}

#[test]
fn an_api_key_is_no_stream_key_and_the_other_way_round() {
    let (_dir, store) = store();
    assert_eq!(store.authorise_api(Some("ra_x"), NOW).expect("readable"), Shown::NoKeys);
    let stream = add(&store, "live/me").expect("added");
    let api = store.add_api(Some("1970-01-01T00:01:00Z".into()), NOW).expect("added");
    let ask = |key| store.authorise_api(key, NOW).expect("readable");
    assert_eq!(ask(Some(&api.paste)), Shown::Good);
    assert_eq!(ask(Some(secret(&stream))), Shown::Wrong);
    assert_eq!(ask(None), Shown::Wrong);
    assert_eq!(
        store.authorise_api(Some(&api.paste), WallTime::from_micros(60_000_000)).expect("readable"),
        Shown::Wrong
    );
    assert!(store.authorise(&name("live/me"), Some(&api.paste), ip("127.0.0.1"), NOW).is_err());
    assert!(matches!(store.revoke(&api.id), Ok(Some(Revoked::Api(_)))));
    assert_eq!(ask(Some(&api.paste)), Shown::NoKeys);
}

#[test]
fn keys_and_their_ranges_are_bounded() {
    let (dir, store) = store();
    let range = "192.0.2.0/24".parse().expect("a range");
    let conditions = |count| Conditions { allow: vec![range; count], ..Conditions::default() };
    assert_eq!(conditions(32).validate(), Ok(()));
    assert!(conditions(33).validate().is_err_and(|why| why.starts_with("allow: 33")));
    let stream: StreamPattern = "live/me".parse().expect("a pattern");
    store.add(&stream, conditions(33), NOW).expect("the store itself keeps what it is given");
    assert_eq!(KeyStore::new(dir.path()).list().expect("readable").len(), 1, "and reads it again");
    let key = store.list().expect("readable").remove(0);
    store.file.change(|keys| keys.keys = vec![key.clone(); stored::MAX_KEYS]).expect("written");
    assert!(matches!(add(&store, "live/me"), Err(Error::Full(words)) if words.contains("10000 keys")));
    assert!(store.add_api(None, NOW).is_ok(), "API keys are counted apart");
}
