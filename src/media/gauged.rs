//! A gauge that counts what is there now.

use prometheus::IntGauge;

/// One more on a gauge, and one less when dropped, however the task ends.
#[derive(Debug)]
pub(crate) struct Gauged(IntGauge);

impl Gauged {
    pub(crate) fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}
