//! Whether the leader's segments are of one length, and how long the next one will be.

/// Equal segments in a row that make a stream regular.
const FIRST_PROOF: u32 = 2;
/// The most that are asked for after predictions have failed. An encoder that puts key frames at scene changes looks regular for a
/// while, again and again; each wrong guess costs players a change of period, so each doubles the proof that the next one needs.
const LONGEST_PROOF: u32 = 16;
/// Predictions in a row that must come true before failures are forgotten.
const REDEEMED_AFTER: u32 = 30;

/// Watches the leader's cuts. All times in ticks of the leader.
#[derive(Debug)]
pub(super) struct Regularity {
    /// Where the newest segment began, if with a key frame.
    begun: Option<i64>,
    /// Length of the one before it, if it was whole.
    last: Option<i64>,
    /// Equal segments in a row.
    run: u32,
    /// Where the first of them began.
    run_start: i64,
    /// How many it takes.
    proof: u32,
    /// Predictions come true in a row.
    hits: u32,
    /// What the next segment is expected to last.
    expected: i64,
    /// What segments lasted before the timeline was interrupted, until the first one behind that has been seen.
    before: Option<i64>,
}

impl Default for Regularity {
    fn default() -> Self {
        Self { begun: None, last: None, run: 0, run_start: 0, proof: FIRST_PROOF, hits: 0, expected: 0, before: None }
    }
}

impl Regularity {
    /// Of a stream whose segments lasted so long, where they were regular, before it was interrupted.
    pub(super) fn remembering(before: Option<i64>) -> Self {
        Self { before, ..Self::default() }
    }

    /// The newest segment ends at `at`, where the next one begins.
    pub(super) fn segment_ends(&mut self, at: i64, independent: bool, tolerance: i64) {
        let Some(begun) = self.begun.filter(|_| independent) else { return self.restart(at, independent) };
        let length = at.saturating_sub(begun);
        let is_like = |other: i64| length.saturating_sub(other).saturating_abs() <= tolerance;
        if self.before.take().is_some_and(is_like) {
            // The encoder is regular still, or another one that is set up alike: what was proved need not be proved again.
            (self.run, self.run_start) = (self.proof, at.saturating_sub(length.saturating_mul(self.proof.into())));
        } else if self.last.is_some_and(is_like) {
            self.run = self.run.saturating_add(1);
        } else {
            (self.run, self.run_start) = (1, begun);
        }
        (self.begun, self.last) = (Some(at), Some(length));
        if self.run == self.proof {
            self.expected = self.mean(at);
        }
    }

    /// A segment begins that does not continue the one before, or not with a key frame.
    pub(super) fn restart(&mut self, at: i64, independent: bool) {
        self.begun = independent.then_some(at);
        (self.last, self.run) = (None, 0);
    }

    /// The timeline breaks off. What comes next is likely to be as regular as what was, and counts as such once one segment has shown it.
    pub(super) fn interrupt(&mut self) {
        if self.is_regular() {
            self.before = Some(self.expected);
        }
        (self.begun, self.last, self.run) = (None, None, 0);
    }

    /// The next segment can be predicted.
    pub(super) fn is_regular(&self) -> bool {
        self.run >= self.proof
    }

    /// A prediction has come true.
    pub(super) fn predicted(&mut self) {
        self.hits = self.hits.saturating_add(1);
        if self.hits >= REDEEMED_AFTER {
            self.proof = FIRST_PROOF;
        }
    }

    /// A prediction has failed. One that failed only because small errors had added up, in a stream that is as regular as before, is no
    /// reason for mistrust.
    pub(super) fn mispredicted(&mut self) {
        self.hits = 0;
        if self.is_regular() {
            self.expected = self.begun.map_or(self.expected, |begun| self.mean(begun));
        } else {
            self.proof = self.proof.saturating_mul(2).min(LONGEST_PROOF);
        }
    }

    /// How long a segment is to be announced that begins at `at` and was announced to begin at `said`.
    ///
    /// The same length as before as long as the two are close, which keeps MPDs short; else the mean of the run, and what leads back from
    /// `said` to the media. That is why errors never add up.
    pub(super) fn predict(&mut self, at: i64, said: i64, tolerance: i64) -> i64 {
        let error = at.saturating_sub(said);
        if error.saturating_abs() <= tolerance / 2 {
            return self.expected.max(1);
        }
        // Within a low-latency period one picture that comes late breaks the run without being news.
        if self.is_regular() {
            self.expected = self.mean(at);
        }
        self.expected.saturating_add(error).max(1)
    }

    fn mean(&self, at: i64) -> i64 {
        let run = i64::from(self.run.max(1));
        at.saturating_sub(self.run_start).saturating_add(run / 2) / run
    }
}
