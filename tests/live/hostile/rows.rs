//! Rows of the list of hostile inputs (docs/reliability.md), several beside one canary: each has its own assertions, and a failure names the row.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::canary::{Canary, Footprint};
use super::metric;
use crate::common::server::Server;
use crate::common::wait_for;

/// A server with a canary, and what went wrong so far.
pub struct Rows {
    pub server: Server,
    canary: Canary,
    failures: Vec<String>,
    /// Series that must have a log line: `reason="chunk"`.
    told: BTreeSet<String>,
}

impl Rows {
    /// Starts a server with these overrides, and the canary.
    #[track_caller]
    pub fn start(overrides: &[(&str, &str)]) -> Self {
        let mut server = Server::start_with(overrides);
        let canary = Canary::start_long(&mut server);
        Self { server, canary, failures: Vec::new(), told: BTreeSet::new() }
    }

    /// Allows so much more memory to be in use in the end, where a row leaves something that is kept.
    pub fn allow_kib(&mut self, kib: u64) {
        self.canary.allow_kib(kib);
    }

    /// Runs one row. Each series of `counted` must have grown by then, and a line of the log must carry its label.
    pub fn row(&mut self, row: &str, counted: &[&str], attack: impl FnOnce(&Server)) {
        let before: Vec<_> = counted.iter().map(|series| metric(&self.server, series)).collect();
        let (hurt, start) = (self.canary.hurt().len(), Instant::now());
        let server = &self.server;
        let mut fail = |why: String| {
            eprintln!("row {row} FAILED: {why}");
            self.failures.push(format!("row {row}: {why}"));
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| attack(server))) {
            let words = panic.downcast_ref::<String>().cloned();
            fail(words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default());
        }
        for (series, before) in counted.iter().zip(before) {
            let counted = catch_unwind(AssertUnwindSafe(|| {
                wait_for("the metric", Duration::from_secs(3), || (metric(server, series) > before).then_some(()));
            }));
            if counted.is_err() {
                fail(format!("{series} is still {before}"));
            }
            if let Some((_, label)) = series.split_once('{') {
                self.told.insert(label.trim_end_matches('}').to_owned());
            }
        }
        let new = self.canary.hurt();
        if new.len() > hurt {
            fail(format!("the viewer beside it was hurt: {:?}", &new[hurt..]));
        }
        println!("row {row}: {:?}; longest pause of the canary so far {:?}", start.elapsed(), self.canary.pause());
    }

    /// What the server uses now.
    pub fn footprint(server: &Server) -> Footprint {
        Footprint::of(server.id())
    }

    /// Asserts that nothing went wrong, here or beside it.
    #[track_caller]
    pub fn finish(self) {
        let Self { mut server, canary, mut failures, told } = self;
        let log = server.log();
        for label in told {
            // Where nothing could be accepted there was no peer yet.
            let told =
                |line: &str| line.contains(&label) && (line.contains("peer=") || line.contains("cannot be accepted"));
            if !log.lines().any(told) {
                failures.push(format!("no line of the log says {label} with the peer"));
            }
        }
        assert!(failures.is_empty(), "{}\n", failures.join("\n"));
        canary.assert_unharmed(&mut server);
    }
}
