//! Formats in words that a streamer knows.

use crate::media::Format;

/// Codec, profile and level, such as `H.264 High, level 3.1`.
pub(super) fn format(format: &Format) -> String {
    let codec = format.codec_string();
    if let Format::H264(config) = format {
        return format!(
            "H.264 {}, level {}",
            h264_profile(config.profile, config.compatibility),
            h264_level(config.level)
        );
    }
    audio(&codec).map_or(codec.clone(), str::to_owned)
}

/// An audio codec by its RFC 6381 string, where it has a name that people use.
fn audio(codec: &str) -> Option<&'static str> {
    Some(match codec {
        "mp4a.40.1" => "AAC Main",
        "mp4a.40.2" => "AAC-LC",
        "mp4a.40.3" => "AAC SSR",
        "mp4a.40.4" => "AAC LTP",
        "mp4a.40.5" => "HE-AAC",
        "mp4a.40.29" => "HE-AAC v2",
        _ if is_mp3(codec) => "MP3",
        _ => return None,
    })
}

/// MP3 under each of its names. Spec: RFC 6381 §3.3 with the object types of the MP4 registration authority.
pub(super) fn is_mp3(codec: &str) -> bool {
    ["mp3", "mp4a.6b", "mp4a.69", "mp4a.40.34"].iter().any(|name| codec.eq_ignore_ascii_case(name))
}

/// Spec: ITU-T H.264 annex A.2.
fn h264_profile(profile: u8, constraints: u8) -> String {
    let name = match profile {
        // constraint_set1_flag: what every Main decoder reads too.
        66 if constraints & 0x40 != 0 => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4",
        44 => "CAVLC 4:4:4",
        other => return format!("profile {other}"),
    };
    name.to_owned()
}

/// Spec: ITU-T H.264 annex A.3: level_idc is ten times the level, 9 stands for 1b.
fn h264_level(level: u8) -> String {
    match (level, level % 10) {
        (9, _) => String::from("1b"),
        (_, 0) => (level / 10).to_string(),
        (_, tenth) => format!("{}.{tenth}", level / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_levels_are_called_as_encoders_call_them() {
        assert_eq!(h264_profile(100, 0), "High");
        assert_eq!(h264_profile(66, 0xC0), "Constrained Baseline");
        assert_eq!(h264_profile(118, 0), "profile 118");
        assert_eq!([9, 30, 31, 51].map(h264_level), ["1b", "3", "3.1", "5.1"]);
    }

    #[test]
    fn audio_is_called_by_its_name() {
        assert_eq!(audio("mp4a.40.2"), Some("AAC-LC"));
        assert_eq!(audio("mp4a.6B"), Some("MP3"));
        assert_eq!(audio("ac-3"), None);
    }
}
