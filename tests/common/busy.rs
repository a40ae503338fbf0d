//! Measures how busy the machine is, so that a test that judges time can tell a slow server from a slow machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the spinner asks to sleep each time.
const NAP: Duration = Duration::from_millis(5);
/// One in twenty naps this much too long: the machine has no processor to spare for what is due.
const LATE: Duration = Duration::from_millis(40);
/// More stolen time than this, in hundredths, means the host gave the processors to others.
const STOLEN_PERCENT: f64 = 5.0;

/// Watches from its creation until [`Watch::verdict`].
pub struct Watch {
    stop: Arc<AtomicBool>,
    spinner: JoinHandle<Vec<Duration>>,
    before: Option<Ticks>,
}

/// What was measured.
#[derive(Debug)]
pub struct Verdict {
    /// How late the 95th of 100 naps ended.
    pub lateness: Duration,
    /// Processor time that other guests of the host got instead of this one, in hundredths.
    pub stolen_percent: f64,
    /// Whether a failed time judgement may be blamed on the machine.
    pub too_busy: bool,
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let spinner = thread::spawn(move || {
            let mut late = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(NAP);
                late.push(start.elapsed().saturating_sub(NAP));
            }
            late
        });
        Self { stop, spinner, before: Ticks::read() }
    }

    /// Ends the watch.
    pub fn verdict(self) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        let mut late = self.spinner.join().expect("the spinner does not panic");
        late.sort_unstable();
        let lateness = late.get(late.len() * 95 / 100).copied().unwrap_or_default();
        let stolen_percent = match (self.before, Ticks::read()) {
            (Some(before), Some(after)) => after.stolen_since(&before),
            _ => 0.0,
        };
        Verdict { lateness, stolen_percent, too_busy: lateness > LATE || stolen_percent > STOLEN_PERCENT }
    }
}

/// The first line of `/proc/stat`.
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        // user nice system idle iowait irq softirq steal; guest time is already in user.
        let fields: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        Some(Self { all: fields.iter().sum(), stolen: fields.get(7).copied().unwrap_or(0) })
    }

    fn stolen_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        // Ticks of minutes fit a float exactly.
        #[expect(clippy::cast_precision_loss, reason = "tick counts of a test run are small")]
        let percent = 100.0 * self.stolen.saturating_sub(before.stolen) as f64 / all as f64;
        percent
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
        let Err(reason) = result else { return };
        assert!(verdict.too_busy, "{name}: {reason} (the machine was not to blame: {verdict:?})");
        eprintln!("{name}: attempt {number} failed on a machine that was too busy: {reason} ({verdict:?})");
    }
    panic!("{name}: the machine was too busy in all {ATTEMPTS} attempts to judge time on it");
}
