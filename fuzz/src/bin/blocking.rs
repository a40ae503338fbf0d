//! Blocking decisions over windows of a real show: what waits is answered once its part is there.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::edge::blocking::{Decision, decide};
use rillcast::edge::route::Directives;
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

fuzz_target!(|data: &[u8]| {
    let (head, data) = data.split_at(data.len().min(48));
    let mut asked = Choices::new(head);
    let mut choices = Choices::new(data);
    let config = config(&mut choices);
    let mut show = Show::new(config);
    show.play(&mut choices);
    // What was answered stays answered, and what waits is answered with the window that has what it waits for.
    for (index, (_, before)) in show.history.iter().enumerate().rev().take(48) {
        let next = show.history[index + 1..].iter().find(|(_, window)| window.rendition.id == before.rendition.id);
        let Some((_, after)) = next else { continue };
        let msn = (before.open_msn + 2).saturating_sub(asked.below(5) as u64);
        let part = [None, Some(asked.below(12) as u64)][asked.below(2)];
        let directives = Directives { msn: Some(msn), part, skip: false };
        let (first, second) = (decide(before, &directives), decide(after, &directives));
        if first == Decision::Now {
            assert_eq!(second, Decision::Now, "{directives:?}");
        } else if first == Decision::Wait {
            let listed = after.segment(msn).map_or(0, |segment| segment.parts.len() as u64);
            let there = after.is_complete(msn) || after.ended;
            if part.map_or(there, |part| part < listed) || after.open_msn > msn + 1 || after.ended {
                assert_eq!(second, Decision::Now, "{directives:?}");
            }
        }
    }
    for window in show.windows.values() {
        for _ in 0..4 {
            let near = window.open_msn.saturating_add(3).saturating_sub(asked.below(8) as u64);
            let msn = [None, Some(near), Some(asked.long())][asked.below(3)];
            let part = [None, Some(u64::from(asked.byte()))][asked.below(2)];
            let directives = Directives { msn, part, skip: false };
            let decision = decide(window, &directives);
            match (decision, msn) {
                (Decision::Wait, Some(msn)) => {
                    assert!(!window.ended && msn <= window.open_msn + 1 && !window.is_complete(msn) || part.is_some());
                }
                (Decision::Wait, None) => panic!("nothing was asked for"),
                (Decision::Now, Some(msn)) if !window.ended => assert!(msn <= window.open_msn),
                _ => {}
            }
            assert!(!window.ended || decision == Decision::Now);
        }
    }
});
