//! `onMetaData`: what the encoder says about its stream. Some say nothing, some nonsense; nothing here is believed, only compared.
//!
//! Specification: Adobe Flash Video File Format 10.1, §E.5.

use std::ops::RangeInclusive;

use super::amf0::Value;
use crate::ingest::report::Announced;

/// Longest encoder name kept, in characters.
const MAX_ENCODER: usize = 64;
/// Announced bit rates that are believed, kbit/s. Encoders that do not know theirs write 0.
const KBPS: RangeInclusive<f64> = 1.0..=1_000_000.0;
/// Announced picture rates that are believed, a second.
const FPS: RangeInclusive<f64> = 1.0..=240.0;

/// What is of use in it, and believed.
pub(super) fn read(metadata: &Value) -> Announced {
    let number = |name: &str| metadata.property(name).and_then(Value::number);
    let bps = |name: &str| {
        let kbps = number(name).filter(|kbps| KBPS.contains(kbps))?;
        Some((kbps * 1_000.0).round() as u64)
    };
    let encoder = metadata.property("encoder").and_then(Value::text).filter(|text| !text.is_empty());
    Announced {
        encoder: encoder.map(|text| text.chars().take(MAX_ENCODER).collect()),
        fps: number("framerate").filter(|fps| FPS.contains(fps)),
        video_bps: bps("videodatarate"),
        audio_bps: bps("audiodatarate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(properties: &[(&str, Value)]) -> Value {
        Value::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn obs_announces_rates_in_kilobits() {
        let announced = read(&metadata(&[
            ("encoder", Value::String("obs-output module (libobs version 30.2.3)".into())),
            ("framerate", Value::Number(60.0)),
            ("videodatarate", Value::Number(6_000.0)),
            ("audiodatarate", Value::Number(160.0)),
        ]));
        assert_eq!(announced.encoder.as_deref(), Some("obs-output module (libobs version 30.2.3)"));
        assert_eq!(
            (announced.fps, announced.video_bps, announced.audio_bps),
            (Some(60.0), Some(6_000_000), Some(160_000))
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        for number in [0.0, -5.0, f64::NAN, f64::INFINITY, 1e300] {
            let number = Value::Number(number);
            let announced = read(&metadata(&[
                ("framerate", number.clone()),
                ("videodatarate", number.clone()),
                ("audiodatarate", number),
            ]));
            assert_eq!(announced, Announced::default());
        }
        assert_eq!(read(&Value::Null), Announced::default());
        let long = read(&metadata(&[("encoder", Value::String("é".repeat(5_000)))]));
        assert_eq!(long.encoder.map(|text| text.chars().count()), Some(MAX_ENCODER));
    }
}
