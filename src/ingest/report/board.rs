//! Where publishers hang their reports, and where they are read.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::advice::Rules;
use super::meter::{Announced, Meter};
use crate::ingest::timeline::Repairs;
use crate::media::report::{Health, IngestReport};
use crate::media::{AccessUnit, Kind, StreamName, Track};

/// Last reports of publishers that are gone. A peer that publishes one name after another pushes out those of others that went first.
const MAX_DEPARTED: usize = 1_024;

/// Reports by stream. Cheap to clone the `Arc` of; one per process.
pub struct Board {
    rules: Rules,
    /// How long a report outlives its publisher.
    keep: Duration,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// As many as there are publishers, and [`MAX_DEPARTED`].
    by_name: HashMap<StreamName, Arc<Entry>>,
    /// In the order of going.
    departed: VecDeque<(StreamName, Arc<Entry>)>,
}

#[derive(Debug)]
struct Entry {
    meter: Mutex<Meter>,
}

impl Board {
    /// An empty board. A report stays for `keep` after its publisher's last sign of life.
    pub fn new(rules: Rules, keep: Duration) -> Arc<Self> {
        Arc::new(Self { rules, keep, entries: Mutex::default() })
    }

    /// A publisher of `name` was let in now. The report of one before it is replaced.
    pub fn open(self: &Arc<Self>, name: StreamName, now: Instant) -> Reporter {
        let entry = Arc::new(Entry { meter: Mutex::new(Meter::new(now)) });
        let mut entries = self.entries.lock();
        self.forget(&mut entries, now);
        entries.by_name.insert(name.clone(), Arc::clone(&entry));
        drop(entries);
        Reporter { board: Arc::clone(self), name, entry }
    }

    /// What is known of the publisher of `name`, or of the one that went a short while ago.
    pub fn report(&self, name: &StreamName, now: Instant) -> Option<IngestReport> {
        let mut entries = self.entries.lock();
        self.forget(&mut entries, now);
        let entry = Arc::clone(entries.by_name.get(name)?);
        let departed = entries.departed.iter().any(|(_, gone)| Arc::ptr_eq(gone, &entry));
        drop(entries);
        let report = entry.meter.lock().snapshot(now, !departed, &self.rules);
        Some(report)
    }

    /// How many publishers are connected whose streams are in good, fair and poor health.
    pub fn health(&self, now: Instant) -> [i64; 3] {
        let entries = self.entries.lock();
        let gone = |entry| entries.departed.iter().any(|(_, gone)| Arc::ptr_eq(gone, entry));
        let connected: Vec<_> = entries.by_name.values().filter(|entry| !gone(entry)).cloned().collect();
        drop(entries);
        let mut counts = [0; 3];
        let [good, fair, poor] = &mut counts;
        for entry in connected {
            match entry.meter.lock().snapshot(now, true, &self.rules).health {
                Health::Good => *good += 1,
                Health::Fair => *fair += 1,
                Health::Poor => *poor += 1,
            }
        }
        counts
    }

    fn depart(&self, name: &StreamName, entry: &Arc<Entry>) {
        let mut entries = self.entries.lock();
        if entries.departed.len() >= MAX_DEPARTED
            && let Some((oldest, gone)) = entries.departed.pop_front()
        {
            entries.remove(&oldest, &gone);
        }
        entries.departed.push_back((name.clone(), Arc::clone(entry)));
    }

    /// Takes down what has hung for long enough.
    fn forget(&self, entries: &mut Entries, now: Instant) {
        while let Some((name, entry)) = entries.departed.front() {
            let replaced = entries.by_name.get(name).is_none_or(|current| !Arc::ptr_eq(current, entry));
            if !replaced && now.saturating_duration_since(entry.meter.lock().last_seen()) < self.keep {
                return;
            }
            if let Some((name, entry)) = entries.departed.pop_front() {
                entries.remove(&name, &entry);
            }
        }
    }
}

impl Entries {
    fn remove(&mut self, name: &StreamName, entry: &Arc<Entry>) {
        if self.by_name.get(name).is_some_and(|current| Arc::ptr_eq(current, entry)) {
            self.by_name.remove(name);
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("rules", &self.rules).field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// A publisher's hand on its report. Dropping it says that the publisher is gone.
#[derive(Debug)]
pub struct Reporter {
    board: Arc<Board>,
    name: StreamName,
    entry: Arc<Entry>,
}

impl Reporter {
    /// See [`Meter::announce`].
    pub fn announce(&self, announced: Announced) {
        self.entry.meter.lock().announce(announced);
    }

    /// See [`Meter::track`].
    pub fn track(&self, track: &Track) {
        self.entry.meter.lock().track(track);
    }

    /// See [`Meter::refused`].
    pub fn refused(&self, kind: Kind, why: &str) {
        self.entry.meter.lock().refused(kind, why);
    }

    /// See [`Meter::unit`].
    pub fn unit(&self, kind: Kind, unit: &AccessUnit, now: Instant) {
        self.entry.meter.lock().unit(kind, unit, now);
    }

    /// See [`Meter::repaired`].
    pub fn repaired(&self, repairs: &Repairs, now: Instant) {
        if !repairs.is_empty() {
            self.entry.meter.lock().repaired(repairs, now);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.board.depart(&self.name, &self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        key_frames: Duration::from_secs(2),
        longest_segment: Duration::from_secs(4),
        part: Duration::from_millis(215),
    };
    const KEEP: Duration = Duration::from_secs(30);

    fn name(name: &str) -> StreamName {
        StreamName::new("live", name).expect("a good name")
    }

    #[test]
    fn a_report_outlives_its_publisher_for_a_while() {
        let (board, start) = (Board::new(RULES, KEEP), Instant::now());
        assert_eq!(board.report(&name("me"), start), None);
        let reporter = board.open(name("me"), start);
        assert!(board.report(&name("me"), start).is_some_and(|report| report.connected));
        drop(reporter);
        assert!(board.report(&name("me"), start + KEEP / 2).is_some_and(|report| !report.connected));
        assert_eq!(board.report(&name("me"), start + KEEP), None);
        assert_eq!(board.entries.lock().departed.len(), 0);
    }

    #[test]
    fn streams_are_counted_by_health_while_their_publishers_are_there() {
        let (board, start) = (Board::new(RULES, KEEP), Instant::now());
        let silent = board.open(name("silent"), start);
        let refused = board.open(name("refused"), start);
        refused.refused(Kind::Video, "no");
        assert_eq!(board.health(start), [1, 0, 1]);
        drop((silent, refused));
        assert_eq!(board.health(start), [0, 0, 0]);
    }

    #[test]
    fn the_one_that_came_back_is_not_forgotten_with_the_one_that_went() {
        let (board, start) = (Board::new(RULES, KEEP), Instant::now());
        let first = board.open(name("me"), start);
        let second = board.open(name("me"), start);
        // A take-over: the first goes after the second has come.
        drop(first);
        assert!(board.report(&name("me"), start + KEEP * 2).is_some_and(|report| report.connected));
        drop(second);
        assert!(board.report(&name("me"), start + KEEP / 2).is_some_and(|report| !report.connected));
        assert_eq!(board.report(&name("me"), start + KEEP * 2), None);
    }

    #[test]
    fn those_that_are_gone_are_limited() {
        let (board, start) = (Board::new(RULES, KEEP), Instant::now());
        for n in 0..MAX_DEPARTED * 2 {
            drop(board.open(name(&n.to_string()), start));
        }
        let entries = board.entries.lock();
        assert_eq!((entries.departed.len(), entries.by_name.len()), (MAX_DEPARTED, MAX_DEPARTED));
    }
}
