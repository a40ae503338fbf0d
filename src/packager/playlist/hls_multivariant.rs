//! The HLS multivariant playlist: a pure function from a catalog to text, written by m3u8-rs.
//!
//! Specification: RFC 8216bis-22 §4.4.6, §6.2.4; Apple HLS Authoring Specification 9.1 to 9.15.

use std::collections::HashMap;

use m3u8_rs::{
    AlternativeMedia, AlternativeMediaType, ClosedCaptionGroupId, InstreamId, MasterPlaylist, QuotedOrUnquoted,
    Resolution, VariantStream,
};

use crate::media::codec::h264::DynamicRange;
use crate::media::{Format, Kind};
use crate::packager::Catalog;
use crate::packager::catalog::Measured;

const AUDIO_GROUP: &str = "audio";
const CAPTIONS_GROUP: &str = "captions";

/// Renders `catalog`, whose renditions must have been measured.
pub fn render(catalog: &Catalog) -> String {
    let of_kind = |kind| catalog.renditions.iter().filter(move |measured| measured.rendition.id.kind == kind);
    let video: Vec<&Measured> = of_kind(Kind::Video).collect();
    let audio: Vec<&Measured> = of_kind(Kind::Audio).collect();
    let mut playlist = MasterPlaylist {
        version: Some(6),
        independent_segments: catalog.renditions.iter().any(|measured| measured.rendition.config.require_keyframes),
        ..MasterPlaylist::default()
    };
    let captions = video.iter().any(|measured| measured.captions);
    if video.is_empty() {
        playlist.variants = audio.iter().map(|measured| variant(catalog, measured, &[], captions)).collect();
    } else {
        playlist.alternatives =
            audio.iter().enumerate().map(|(index, measured)| media(catalog, measured, index)).collect();
        playlist.alternatives.extend(captions.then(closed_captions));
        playlist.variants = video.iter().map(|measured| variant(catalog, measured, &audio, captions)).collect();
        if !audio.is_empty()
            && audio.iter().all(|own| own.inits.iter().any(|init| init.track.format.is_silent_in_browsers()))
        {
            // Chromium takes no MP3 in MP4 and would drop the whole variant: it gets the picture alone.
            playlist.variants.extend(video.iter().map(|measured| variant(catalog, measured, &[], captions)));
        }
    }
    let mut text = Vec::with_capacity(1_024);
    // Writing to a Vec cannot fail.
    let _ = playlist.write_to(&mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn uri(catalog: &Catalog, measured: &Measured) -> String {
    format!("{}/{}/index.m3u8", catalog.epoch, measured.rendition.id)
}

/// Peak and average include the most demanding audio rendition. Codecs are those of all segments that are listed; who looks at one of a kind looks at the
/// newest. Spec: RFC 8216bis §4.4.6.2, §6.2.4.
fn variant(catalog: &Catalog, measured: &Measured, audio: &[&Measured], captions: bool) -> VariantStream {
    let format = &measured.rendition.init.track.format;
    let mut codecs = Vec::new();
    for init in std::iter::once(&measured).chain(audio).flat_map(|own| &own.inits) {
        let codec = init.track.format.codec_string();
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    let most = |rate: fn(&Measured) -> u64| audio.iter().map(|other| rate(other)).max().unwrap_or(0);
    VariantStream {
        uri: uri(catalog, measured),
        bandwidth: measured.peak_bps + most(|other| other.peak_bps),
        average_bandwidth: Some(measured.average_bps + most(|other| other.average_bps)),
        codecs: Some(codecs.join(",")),
        resolution: format
            .resolution()
            .map(|(width, height)| Resolution { width: width.into(), height: height.into() }),
        frame_rate: (measured.frame_rate > 0.0).then(|| (measured.frame_rate * 1_000.0).round() / 1_000.0),
        audio: (!audio.is_empty()).then(|| AUDIO_GROUP.into()),
        // Without the attribute players offer captions that are not there (AVPlayer) or download segments to look for them (Shaka).
        closed_captions: Some(if captions {
            ClosedCaptionGroupId::GroupId(CAPTIONS_GROUP.into())
        } else {
            ClosedCaptionGroupId::None
        }),
        other_attributes: video_range(format)
            .map(|range| HashMap::from([("VIDEO-RANGE".into(), QuotedOrUnquoted::Unquoted(range.into()))])),
        ..VariantStream::default()
    }
}

/// Where nothing is said, pictures are of the standard range. Spec: RFC 8216bis §4.4.6.2.
fn video_range(format: &Format) -> Option<&'static str> {
    match format {
        Format::H264(config) => match config.dynamic_range {
            DynamicRange::Standard => None,
            DynamicRange::Hlg => Some("HLG"),
            DynamicRange::Pq => Some("PQ"),
        },
        Format::Aac(_) | Format::Mp3(_) => None,
    }
}

fn media(catalog: &Catalog, measured: &Measured, index: usize) -> AlternativeMedia {
    let track = &measured.rendition.init.track;
    AlternativeMedia {
        media_type: AlternativeMediaType::Audio,
        uri: Some(uri(catalog, measured)),
        group_id: AUDIO_GROUP.into(),
        language: Some(track.language.clone()),
        name: if index == 0 { String::from("Audio") } else { format!("Audio {}", index + 1) },
        default: index == 0,
        autoselect: true,
        channels: track.format.sound().map(|sound| sound.channels.to_string()),
        ..AlternativeMedia::default()
    }
}

/// The first CEA-608 channel, in whose place encoders put captions. Which language they are in nobody has said.
fn closed_captions() -> AlternativeMedia {
    AlternativeMedia {
        media_type: AlternativeMediaType::ClosedCaptions,
        group_id: CAPTIONS_GROUP.into(),
        name: String::from("Captions"),
        autoselect: true,
        instream_id: Some(InstreamId::CC(1)),
        ..AlternativeMedia::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::media::Timescale;
    use crate::packager::testing::simulation::Simulation;
    use crate::packager::testing::{audio_track, mp3_track, video_track};
    use crate::packager::{Config, Segment};

    fn rendered(kinds: &[Kind]) -> String {
        let mut simulation = Simulation::new(Config::default());
        simulation.stream(9.0, (30_000, 1_001), 60, true, kinds);
        render(simulation.catalog.as_ref().unwrap())
    }

    #[test]
    fn video_with_an_audio_group() {
        insta::assert_snapshot!("multivariant", rendered(&[Kind::Video, Kind::Audio]));
    }

    #[test]
    fn video_alone_names_no_audio_group() {
        insta::assert_snapshot!("multivariant_video", rendered(&[Kind::Video]));
    }

    #[test]
    fn independent_segments_are_promised_where_they_are_required() {
        for require_keyframes in [false, true] {
            let mut simulation = Simulation::new(Config { require_keyframes, ..Config::default() });
            simulation.stream(9.0, (30, 1), 60, true, &[Kind::Video, Kind::Audio]);
            let text = render(simulation.catalog.as_ref().unwrap());
            assert_eq!(text.contains("\n#EXT-X-INDEPENDENT-SEGMENTS\n"), require_keyframes, "{text}");
        }
    }

    /// RFC 8216bis §4.4.6.2, and §4.1: the peak is that of contiguous segments of half a target duration to one and a half.
    #[test]
    fn bit_rates_are_those_of_the_files_with_little_headroom() {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let mut frame = 0;
        for n in 0..420_i64 {
            // The fourth segment is four times as large as the others.
            let bytes = if (180..240).contains(&n) { 8_000 } else { 2_000 };
            simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, bytes, Timescale::NINETY_KHZ);
            while frame * 1_024 < (n + 1) * 1_600 {
                simulation.push(audio, frame * 1_024, frame * 1_024, true, 600, simulation.audio.timescale);
                frame += 1;
            }
        }
        let (mut peak, mut average) = (0.0, 0.0);
        for window in simulation.windows.values() {
            let scale = window.rendition.init.track.timescale;
            let seconds = |set: &[Arc<Segment>]| scale.seconds(set.iter().map(|segment| segment.duration).sum());
            let rate = |set: &[Arc<Segment>]| {
                let bytes: usize = set.iter().flat_map(|segment| segment.slices()).map(|slice| slice.len()).sum();
                bytes as f64 * 8.0 / seconds(set)
            };
            let all = &window.segments[..];
            let sets = (0..all.len()).flat_map(|from| (from + 1..=all.len()).map(move |to| &all[from..to]));
            peak += sets.filter(|set| (1.9..6.6).contains(&seconds(set))).map(rate).fold(0.0, f64::max);
            average += rate(all);
        }
        assert!(peak > 2.0 * average, "they are two figures: {peak} {average}");
        let text = render(simulation.catalog.as_ref().unwrap());
        let (_, playlist) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
        let said = &playlist.variants[0];
        let said = (said.bandwidth as f64 / peak, said.average_bandwidth.unwrap() as f64 / average);
        assert!((1.0..1.12).contains(&said.0) && (1.0..1.04).contains(&said.1), "{said:?} of {peak} {average}");
    }

    #[test]
    fn beside_mp3_the_picture_is_offered_alone_too() {
        let mut simulation = Simulation::new(Config::default());
        simulation.audio = mp3_track(44_100);
        simulation.stream(9.0, (30, 1), 60, true, &[Kind::Video, Kind::Audio]);
        let text = render(simulation.catalog.as_ref().unwrap());
        let (_, playlist) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
        let [with, without] = &playlist.variants[..] else { panic!("two variants: {text}") };
        assert_eq!((with.codecs.as_deref(), with.audio.is_some()), (Some("avc1.64001F,mp4a.6B"), true));
        assert_eq!((without.codecs.as_deref(), without.audio.is_some()), (Some("avc1.64001F"), false));
        assert_eq!(with.uri, without.uri);
    }

    /// RFC 8216bis §6.2.4. A browser that cannot play what is listed still gets the picture.
    #[test]
    fn codecs_are_those_of_all_that_is_listed() {
        let both = [Kind::Video, Kind::Audio];
        let mut simulation = Simulation::new(Config::default());
        let said = |simulation: &Simulation| -> Vec<String> {
            let text = render(simulation.catalog.as_ref().unwrap());
            let (_, playlist) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
            playlist.variants.into_iter().filter_map(|variant| variant.codecs).collect()
        };
        simulation.audio = mp3_track(48_000);
        simulation.stream(8.0, (30, 1), 60, false, &both);
        simulation.outage(8_000_000, 1_000_000);
        simulation.audio = audio_track();
        simulation.stream(5.0, (30, 1), 60, false, &both);
        assert_eq!(said(&simulation), ["avc1.64001F,mp4a.40.2,mp4a.6B", "avc1.64001F"]);
        simulation.outage(14_000_000, 1_000_000);
        simulation.stream(30.0, (30, 1), 60, false, &both);
        assert_eq!(said(&simulation), ["avc1.64001F,mp4a.40.2"]);
    }

    #[test]
    fn a_high_dynamic_range_is_named() {
        for (range, named) in
            [(DynamicRange::Standard, None), (DynamicRange::Hlg, Some("HLG")), (DynamicRange::Pq, Some("PQ"))]
        {
            let mut simulation = Simulation::new(Config::default());
            if let Format::H264(config) = &mut simulation.video.format {
                config.dynamic_range = range;
            }
            simulation.stream(5.0, (30, 1), 60, false, &[Kind::Video]);
            let text = render(simulation.catalog.as_ref().unwrap());
            let (_, playlist) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
            let said = playlist.variants[0].other_attributes.as_ref().and_then(|all| all.get("VIDEO-RANGE"));
            assert_eq!(said, named.map(|named| QuotedOrUnquoted::Unquoted(named.into())).as_ref(), "{text}");
        }
    }

    #[test]
    fn captions_are_declared_once_they_were_seen() {
        let mut simulation = Simulation::new(Config::default());
        simulation.captions_from = Some(5.0);
        simulation.stream(9.0, (30, 1), 60, true, &[Kind::Video, Kind::Audio]);
        let text = render(simulation.catalog.as_ref().unwrap());
        insta::assert_snapshot!("multivariant_captions", text);
        assert!(m3u8_rs::parse_master_playlist(text.as_bytes()).is_ok());
    }

    #[test]
    fn it_reads_back() {
        let text = rendered(&[Kind::Video, Kind::Audio]);
        let (_, playlist) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
        let variant = &playlist.variants[0];
        assert_eq!(variant.codecs.as_deref(), Some("avc1.64001F,mp4a.40.2"));
        assert_eq!(variant.frame_rate, Some(29.97));
        assert_eq!(variant.audio, Some(playlist.alternatives[0].group_id.clone()));
    }
}
