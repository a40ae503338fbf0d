//! Patterns of streams and ranges of addresses, as keys, tokens and the configuration name them: one spelling each, and no stream beyond it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::control::pattern::{IpRange, StreamPattern};
use rillcast::media::StreamName;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(pattern) = first.parse::<StreamPattern>() {
        assert_eq!(pattern.to_string(), first);
        assert!(!pattern.app().is_empty() && !pattern.app().contains('*'));
        if let Ok(name) = second.parse::<StreamName>()
            && pattern.matches(&name)
        {
            assert_eq!(pattern.app(), name.app());
            assert!(first.ends_with("/*") || first == second);
        }
    }
    if let Ok(range) = first.parse::<IpRange>() {
        // Written again it is the same range, if not the same text: 192.0.2.7/24 is 192.0.2.0/24.
        assert_eq!(range.to_string().parse::<IpRange>(), Ok(range));
        if let Ok(ip) = second.parse::<std::net::IpAddr>() {
            assert_eq!(range.contains(ip), range.contains(ip.to_canonical()));
        }
    }
});
