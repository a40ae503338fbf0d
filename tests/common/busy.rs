//! Measures how busy others keep the machine, so that a test that judges time can tell a slow server from a slow machine.
//!
//! What the test itself starts (server, encoder, browser) is not counted: if those are too slow together, that is a finding.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the watcher asks to sleep each time.
const NAP: Duration = Duration::from_millis(5);
/// How often it looks at what our own processes have used. A browser's helpers outlive it by moments and are then nobody's children.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// One in twenty naps this much too long: the machine stood still.
const LATE: Duration = Duration::from_millis(40);
/// Processor time that went to other guests of the host, in hundredths of all of it.
const STOLEN_PERCENT: f64 = 5.0;
/// Processor time that went to processes which are not ours, in hundredths of one processor.
const OTHERS_PERCENT: f64 = 25.0;

/// Watches from its creation until [`Watch::verdict`].
pub struct Watch {
    stop: Arc<AtomicBool>,
    sleeper: JoinHandle<(Vec<Duration>, u64)>,
    before: Ticks,
    since: Instant,
}

/// What was measured.
#[derive(Debug)]
pub struct Verdict {
    /// How late the 95th of 100 naps ended.
    pub lateness: Duration,
    /// Processor time that other guests of the host got instead of this one, in hundredths of all.
    pub stolen_percent: f64,
    /// Processor time of processes that this test did not start, in hundredths of one processor.
    pub others_percent: f64,
    /// Whether a failed time judgement may be blamed on the machine.
    pub too_busy: bool,
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let sleeper = thread::spawn(move || {
            let mut late = Vec::new();
            let mut ours = Ours::default();
            let mut looked = Instant::now();
            ours.look();
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(NAP);
                late.push(start.elapsed().saturating_sub(NAP));
                if looked.elapsed() > LOOK_EVERY {
                    ours.look();
                    looked = Instant::now();
                }
            }
            ours.look();
            (late, ours.used())
        });
        Self { stop, sleeper, before: Ticks::read(), since: Instant::now() }
    }

    /// Ends the watch.
    pub fn verdict(self) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        let (mut late, ours) = self.sleeper.join().expect("the sleeper does not panic");
        late.sort_unstable();
        let lateness = late.get(late.len() * 95 / 100).copied().unwrap_or_default();
        let after = Ticks::read();
        let percent = |part: u64, of: f64| 100.0 * f64::from(u32::try_from(part).unwrap_or(u32::MAX)) / of.max(1.0);
        let all = after.all.saturating_sub(self.before.all);
        let stolen_percent =
            percent(after.stolen.saturating_sub(self.before.stolen), f64::from(u32::try_from(all).unwrap_or(u32::MAX)));
        let others = after.busy.saturating_sub(self.before.busy).saturating_sub(ours);
        // One processor's ticks in this time: USER_HZ is 100 on every Linux that Debian ships.
        let others_percent = percent(others, self.since.elapsed().as_secs_f64() * 100.0);
        let too_busy = lateness > LATE || stolen_percent > STOLEN_PERCENT || others_percent > OTHERS_PERCENT;
        Verdict { lateness, stolen_percent, others_percent, too_busy }
    }
}

/// Processor time so far, in ticks of 10 ms, over all processors.
struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
}

impl Ticks {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/stat").expect("/proc is there");
        // user nice system idle iowait irq softirq steal; guest time is already in user.
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = fields[..] else {
            panic!("/proc/stat has eight fields: {text}")
        };
        let busy = user + nice + system + irq + softirq;
        Self { all: busy + idle + iowait + stolen, busy, stolen }
    }
}

/// What this process and its descendants use, also after they ended: by process and its start, ticks at first and at last sight.
#[derive(Default)]
struct Ours {
    seen: HashMap<(u32, u64), (u64, u64)>,
    looks: u32,
}

impl Ours {
    fn look(&mut self) {
        let mut found = HashMap::new();
        for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process may end between the listing and the reading.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<u64> = rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
            // After the state: parent, …, utime and stime (11th and 12th), …, start time (19th).
            let (Some(parent), Some(user), Some(system), Some(start)) =
                (fields.first(), fields.get(10), fields.get(11), fields.get(18))
            else {
                continue;
            };
            found.insert(id, (u32::try_from(*parent).unwrap_or(0), user + system, *start));
        }
        let me = std::process::id();
        let descends = |mut id: u32| {
            // Deeper than any chain of processes here.
            for _ in 0..64 {
                if id == me {
                    return true;
                }
                match found.get(&id) {
                    Some((parent, _, _)) => id = *parent,
                    None => return false,
                }
            }
            false
        };
        for (id, (_, ticks, start)) in &found {
            let known = self.seen.contains_key(&(*id, *start));
            if known || descends(*id) {
                // What was used before the first look is not of this watch; a process that came later has used all of it since.
                let first = if self.looks == 0 { *ticks } else { 0 };
                self.seen.entry((*id, *start)).or_insert((first, *ticks)).1 = *ticks;
            }
        }
        self.looks += 1;
    }

    fn used(&self) -> u64 {
        self.seen.values().map(|(first, last)| last.saturating_sub(*first)).sum()
    }
}

/// Runs a judgement of time up to three times: it is repeated only when it failed while the machine was measurably too busy.
#[track_caller]
pub fn judge(name: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    const ATTEMPTS: u32 = 3;
    for number in 1..=ATTEMPTS {
        let watch = Watch::start();
        let result = attempt();
        let verdict = watch.verdict();
        println!("{name}: {verdict:?}");
        let Err(reason) = result else { return };
        assert!(verdict.too_busy, "{name}: {reason} (the machine was not to blame: {verdict:?})");
        eprintln!("{name}: attempt {number} failed on a machine that was too busy: {reason}");
    }
    panic!("{name}: the machine was too busy in all {ATTEMPTS} attempts to judge time on it");
}
