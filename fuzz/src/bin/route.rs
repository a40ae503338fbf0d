//! Paths and queries: what is routed holds nothing that means something else elsewhere.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::edge::route::{Object, Route, parse};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('?').map_or((&text[..], None), |(path, query)| (path, Some(query)));
    let Ok(route) = parse(path, query) else { return };
    if route == Route::Api {
        return;
    }
    assert!(path.len() <= 512 && path.starts_with('/'));
    assert!(!path.split('/').any(|element| element == ".." || element == "."));
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-/".contains(&byte)));
    if let Route::Rendition(place, object) = route {
        // The one spelling.
        let name = match object {
            Object::Playlist(_) => "index.m3u8".to_owned(),
            Object::Init(number) => format!("init-{number}.mp4"),
            Object::Segment(msn) => format!("s{msn}.m4s"),
            Object::Part(number) => format!("p{number}.m4s"),
        };
        assert_eq!(path, format!("/{}/{}/{}/{name}", place.stream, place.epoch, place.rendition));
    }
});
