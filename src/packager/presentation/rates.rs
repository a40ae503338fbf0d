//! Figures that playlists and MPDs show, rounded so that they do not change with every segment.

/// Three significant digits, so that the figure does not change with every segment.
pub(super) fn round_up(bps: f64) -> u64 {
    let unit = 10_f64.powf((bps.max(1.0).log10() - 2.0).floor()).max(1.0);
    ((bps / unit).ceil() * unit) as u64
}

/// The usual rate that `measured` is nearest to within half a percent, else the VUI's where it is close, else what was measured; the VUI's
/// before anything was, and 0 where it has none.
pub(super) fn frame_rate(measured: Option<f64>, vui: Option<(u32, u32)>) -> f64 {
    const USUAL: [f64; 13] = [
        12.0,
        12.5,
        15.0,
        24_000.0 / 1_001.0,
        24.0,
        25.0,
        30_000.0 / 1_001.0,
        30.0,
        48.0,
        50.0,
        60_000.0 / 1_001.0,
        60.0,
        120.0,
    ];
    let said = vui.filter(|(_, denominator)| *denominator > 0).map(|(n, d)| f64::from(n) / f64::from(d));
    let Some(measured) = measured else { return said.unwrap_or(0.0) };
    let near = |rate: &f64, share: f64| (measured - rate).abs() <= rate * share;
    if let Some(rate) = said.filter(|rate| near(rate, 0.005)) {
        return rate;
    }
    let nearest = USUAL.iter().copied().filter(|rate| near(rate, 0.005));
    nearest
        .min_by(|a, b| (a - measured).abs().total_cmp(&(b - measured).abs()))
        .unwrap_or((measured * 1000.0).round() / 1000.0)
}
