//! From messages to tracks and access units.

use super::*;

#[test]
fn a_publisher_that_is_not_ours_ends_in_access_units() {
    for portion in [1, 7, 4_096] {
        let mut pair = Pair::new(portion);
        let request = pair.publish("live/", "me?key=rk_secret").unwrap();
        assert_eq!(request.name.to_string(), "live/me");
        assert_eq!(request.credential, Credential::Key("rk_secret".into()));
        assert!(!format!("{request:?}").contains("secret"));
        pair.accept();
        let metadata = StreamMetadata { video_frame_rate: Some(30.0), ..StreamMetadata::new() };
        let mut sent = vec![pair.client.publish_metadata(&metadata).unwrap()];
        let time = RtmpTimestamp::new;
        sent.push(pair.client.publish_video_data(avc_config().into(), time(0), false).unwrap());
        sent.push(pair.client.publish_audio_data([&[0xAF, 0], &ASC[..]].concat().into(), time(0), false).unwrap());
        for n in 0..60_u32 {
            let tag = picture(n % 30 == 0, 40, 3_000, n as u8);
            sent.push(pair.client.publish_video_data(tag.into(), time(n * 40), n % 2 == 1).unwrap());
            sent.push(pair.client.publish_audio_data(aac_frame(300).into(), time(n * 64 / 3), false).unwrap());
        }
        for result in sent {
            pair.deliver(result);
        }
        let mut tracks = Vec::new();
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for event in pair.events.drain(..) {
            match event {
                Event::Track(track) => tracks.push(track),
                Event::Unit(Kind::Video, unit) => video.push(unit),
                Event::Unit(Kind::Audio, unit) => audio.push(unit),
                Event::Announced(announced) => assert_eq!(announced.fps, Some(30.0)),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(&tracks[0].format, Format::H264(config) if (config.width, config.height) == (640, 360)));
        assert!(matches!(&tracks[1].format, Format::Aac(config) if config.sample_rate == 48_000));
        assert_eq!((tracks.len(), video.len(), audio.len()), (2, 60, 60));
        for (n, unit) in video.iter().enumerate() {
            let n = n as i64;
            assert_eq!((unit.dts, unit.pts, unit.sync), (n * 3_600, (n + 1) * 3_600, n % 30 == 0));
            assert_eq!((unit.data.len(), unit.data[3_003]), (3_004, n as u8));
        }
        for (n, unit) in audio.iter().enumerate() {
            assert_eq!(
                (unit.dts, unit.pts, unit.sync, unit.data.len()),
                (n as i64 * 1_024, n as i64 * 1_024, true, 300)
            );
        }
        assert!(pair.session.take_repairs().is_empty());
        for result in pair.client.stop_publishing().unwrap() {
            pair.deliver(result);
        }
        assert!(matches!(pair.events[..], [Event::Unpublished]));
    }
}

#[test]
fn access_units_of_a_track_lie_side_by_side() {
    let mut raw = Raw::configured();
    // Audio between the chunks of video must not come between them in memory.
    for n in 0..8 {
        let video = chunks(6, n * 40, 9, &picture(n == 0, 0, 1_000, n as u8), 128);
        let audio = chunks(4, n * 40, 8, &aac_frame(200), 128);
        let mixed: Vec<u8> = video[..4].iter().chain(&audio).chain(&video[4..]).flatten().copied().collect();
        raw.send(&mixed).unwrap();
    }
    let units = raw.units();
    for kind in [Kind::Video, Kind::Audio] {
        let spans: Vec<_> =
            units.iter().filter(|(of, _)| *of == kind).map(|(_, unit)| unit.data.as_ptr_range()).collect();
        assert_eq!(spans.len(), 8);
        assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start), "{kind:?}");
    }
}

#[test]
fn two_messages_of_one_track_may_interleave() {
    let mut raw = Raw::configured();
    let first = chunks(6, 0, 9, &picture(true, 0, 400, 1), 128);
    let second = chunks(7, 40, 9, &picture(false, 0, 300, 2), 128);
    for (at, chunk) in first.iter().enumerate() {
        raw.send(chunk).unwrap();
        if let Some(chunk) = second.get(at) {
            raw.send(chunk).unwrap();
        }
    }
    let units = raw.units();
    let mut got: Vec<_> = units.iter().map(|(_, unit)| (unit.data.len(), unit.data[10])).collect();
    got.sort_unstable();
    assert_eq!(got, [(304, 2), (404, 1)]);
}

#[test]
fn metadata_that_lies_changes_nothing() {
    let number = Amf0Value::Number;
    for rate in [f64::NAN, 0.0, -30.0, 7.0, 1_000.0, 60.0] {
        let mut raw = Raw::publishing();
        let properties = [
            ("framerate", number(rate)),
            ("width", number(-1.0)),
            ("height", number(1e300)),
            ("videocodecid", text("hvc1")),
            ("audiocodecid", number(2.0)),
            ("audiosamplerate", number(5_512.0)),
        ];
        let object = Amf0Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into());
        let body = serialize(&vec![text("@setDataFrame"), text("onMetaData"), object]).unwrap();
        raw.send(&message(4, 0, 18, &body)).unwrap();
        raw.send(&message(6, 0, 9, &avc_config())).unwrap();
        for n in 0..100 {
            raw.send(&message(6, n * 40, 9, &picture(n % 50 == 0, 0, 10, 0))).unwrap();
        }
        let units = raw.units();
        assert_eq!(units.len(), 100);
        assert!(units.iter().enumerate().skip(20).all(|(n, (_, unit))| unit.dts == n as i64 * 3_600), "{rate}");
    }
}

#[test]
fn mp3_brings_its_configuration_in_every_frame() {
    let frame = |head: [u8; 4], size: usize| [&head[..], &vec![7; size - 4]].concat();
    let (stereo, mono) = (frame([0xFF, 0xFB, 0x90, 0x64], 417), frame([0xFF, 0xF3, 0x80, 0xC4], 208));
    let mut raw = Raw::publishing();
    let mut at = 0;
    let mut send = |raw: &mut Raw, parts: &[&[u8]]| {
        let tag = [&[0x2F][..], &parts.concat()].concat();
        raw.send(&message(4, at, 8, &tag)).unwrap();
        at += 26;
    };
    for _ in 0..10 {
        send(&mut raw, &[&stereo]);
    }
    // Two in one message, one that is torn, and what is no MP3 at all.
    send(&mut raw, &[&stereo, &stereo]);
    send(&mut raw, &[&stereo[..400]]);
    send(&mut raw, &[b"ID3"]);
    for _ in 0..3 {
        send(&mut raw, &[&mono]);
    }
    let (mut tracks, mut units) = (Vec::new(), Vec::new());
    for event in raw.events() {
        match event {
            Event::Track(track) => tracks.push(track),
            Event::Unit(_, unit) => units.push(unit),
            other => panic!("{other:?}"),
        }
    }
    let facts: Vec<_> = tracks.iter().map(|track| (track.format.codec_string(), track.timescale.hz())).collect();
    assert_eq!(facts, [("mp4a.6B".to_owned(), 44_100), ("mp4a.69".to_owned(), 22_050)]);
    let sizes: Vec<_> = units.iter().map(|unit| unit.data.len()).collect();
    assert_eq!(sizes, [vec![417; 12], vec![208; 3]].concat());
    assert!(units[..12].iter().enumerate().all(|(n, unit)| unit.dts == n as i64 * 1_152 && unit.sync));
    assert_eq!(raw.session.take_repairs().count(Repair::Malformed), 2);
}

#[test]
fn media_before_its_configuration_and_malformed_units_are_dropped() {
    let mut raw = Raw::publishing();
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 0))).unwrap();
    assert!(raw.events().is_empty());
    raw.send(&message(6, 0, 9, &avc_config())).unwrap();
    let mut bad = picture(true, 0, 10, 0);
    bad[8] = 200;
    for tag in [&bad[..], &[0x17, 1, 0, 0, 0], &[0x17, 1], &[0xFF]] {
        raw.send(&message(6, 0, 9, tag)).unwrap();
    }
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 0))).unwrap();
    assert_eq!(raw.units().len(), 1);
    let repairs = raw.session.take_repairs();
    assert_eq!((repairs.count(Repair::BeforeConfig), repairs.count(Repair::Malformed)), (1, 4));
}

#[test]
fn an_unknown_codec_refuses_its_track_alone() {
    let mut raw = Raw::publishing();
    for _ in 0..3 {
        raw.send(&message(6, 0, 9, b"\x90hvc1\0\0\0")).unwrap();
        raw.send(&message(4, 0, 8, &[&[0xAF, 0], &ASC[..]].concat())).unwrap();
    }
    let events = raw.events();
    assert!(
        matches!(&events[..], [Event::TrackRefused(Kind::Video, why), Event::Track(_)] if why.contains("hvc1")),
        "{events:?}"
    );
}

#[test]
fn a_changed_configuration_is_a_new_track_and_the_same_is_none() {
    let mut raw = Raw::configured();
    raw.send(&message(6, 0, 9, &avc_config())).unwrap();
    assert!(raw.events().is_empty());
    let other = [&[0xAF, 0][..], &[0x12, 0x10]].concat();
    raw.send(&message(4, 0, 8, &other)).unwrap();
    assert!(matches!(&raw.events()[..], [Event::Track(track)] if track.timescale.hz() == 44_100));
    let result = (0..40).try_for_each(|n| {
        raw.send(&message(4, 0, 8, &[&[0xAF, 0][..], if n % 2 == 0 { &ASC } else { &[0x12, 0x10] }].concat()))
    });
    assert_eq!(result, Err(Error::Formats(TooManyFormats)));
}

#[test]
fn aggregates_are_taken_apart_on_the_clock_of_the_message() {
    let mut raw = Raw::configured();
    raw.send(&message(6, 1_000, 9, &picture(true, 0, 10, 0))).unwrap();
    let mut body = Vec::new();
    for (kind, time, tag) in [(9, 5, picture(false, 0, 20, 1)), (8, 6, aac_frame(8))] {
        body.extend_from_slice(&[kind, 0, 0, tag.len() as u8, 0, 0, time, 0, 0, 0, 0]);
        body.extend_from_slice(&tag);
        body.extend_from_slice(&[0, 0, 0, 0]);
    }
    raw.send(&message(8, 1_040, 22, &body)).unwrap();
    let got: Vec<_> = raw.units().iter().map(|(kind, unit)| (*kind, unit.dts)).collect();
    assert_eq!(got, [(Kind::Video, 0), (Kind::Video, 3_600), (Kind::Audio, 41 * 48)]);
}

#[test]
fn an_aborted_message_leaves_no_trace() {
    let mut raw = Raw::configured();
    let half = chunks(6, 0, 9, &picture(true, 0, 1_000, 7), 128);
    raw.send(&half[..3].concat()).unwrap();
    raw.send(&message(2, 0, 2, &[0, 0, 0, 6])).unwrap();
    raw.send(&message(2, 0, 2, &[0, 0, 0, 60])).unwrap();
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 1))).unwrap();
    let units = raw.units();
    assert_eq!((units.len(), units[0].1.data.len()), (1, 14));
}
