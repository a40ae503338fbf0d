//! Who may publish under which name, for how long a stream is there, and what all of them keep.

use super::*;
use crate::media::wall_clock::now;
use crate::media::{AccessUnit, Kind};
use crate::packager::testing::init;

fn info(since: WallTime, holder: &str) -> PublisherInfo {
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    PublisherInfo { protocol: "rtmp", peer, since, holder: holder.into() }
}

/// So many fiftieths of a second of sound, of so many bytes each.
fn publish_sound(publisher: &mut Publisher, count: i64, bytes: usize) -> TrackWriter {
    let track = init(Kind::Audio, 0).track.clone();
    let samples = i64::from(track.timescale.hz()) / 50;
    let mut writer = publisher.add_track(track).unwrap();
    for number in 0..count {
        let (dts, data) = (number * samples, vec![0; bytes][..].into());
        writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
    }
    writer
}

fn limits() -> Limits {
    Limits { max_streams: 4, resume_window: Duration::ZERO }
}

#[tokio::test]
async fn lives_of_one_millisecond_have_epochs_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
    let since = WallTime::from_micros(1_700_000_000_000_000);
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let info = info(since, "test");
        let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
        let track = init(Kind::Audio, 0).track.clone();
        let samples = i64::from(track.timescale.hz()) / 50;
        let mut writer = publisher.add_track(track).unwrap();
        for number in 0..200 {
            let (dts, data) = (number * samples, [0; 4][..].into());
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, since).unwrap();
        }
        epochs.push(publisher.stream().epoch());
    }
    let since = Epoch::starting(since);
    assert_eq!(epochs, [since, since.next(), since.next().next()]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_can_be_watched_for_a_while_after_its_end_and_is_forgotten_then() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
    let name: StreamName = "live/me".parse().unwrap();
    let live = async || {
        let info = info(now(), "test");
        let mut publisher = registry.publish(name.clone(), info, Takeover::default()).await.unwrap();
        let track = init(Kind::Audio, 0).track.clone();
        let samples = i64::from(track.timescale.hz()) / 50;
        let mut writer = publisher.add_track(track).unwrap();
        for dts in (0..200).map(|number| number * samples) {
            let data = [0; 4][..].into();
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
        }
        publisher
    };
    let state = || registry.stream(&name).map(|stream| stream.state());
    let after_end = registry.after_end();
    drop(live().await);
    tokio::time::sleep(after_end / 2).await;
    assert_eq!(state(), Some(State::Ended));
    let publisher = live().await;
    tokio::time::sleep(after_end).await;
    assert_eq!(state(), Some(State::Live), "the end of the one before is not its own");
    drop(publisher);
    tokio::time::sleep(after_end - Duration::from_secs(1)).await;
    assert_eq!(state(), Some(State::Ended));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(state(), None);
}

/// A disk that reserves no more numbers must end the stream rather than let its numbers be used twice.
#[tokio::test]
async fn a_publisher_that_outruns_the_reserved_numbers_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
    let info = info(now(), "test");
    let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
    std::fs::remove_dir_all(folder.path().join("sequences")).unwrap();
    std::fs::write(folder.path().join("sequences"), "no folder any more").unwrap();
    let mut writer = publisher.add_track(init(Kind::Video, 0).track.clone()).unwrap();
    let mut write = |number: i64| {
        let (dts, data) = (number * 180_000, [0; 4][..].into());
        writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now())
    };
    let refused = (0..2_000).find_map(|number| Some((number, write(number).err()?)));
    let (number, error) = refused.expect("1,000 numbers were reserved");
    assert!(matches!(error, WriteError::TooFast), "{error}");
    assert!((990..=1_001).contains(&number), "segment {number}");
    assert_eq!(registry.metrics.hits.numbers.get(), 1);
    let last = publisher.stream().windows()[0].open_msn;
    assert!(last <= 1_000, "no number is shown that is not reserved: {last}");
}

/// Nobody gets a stream by waiting until its publisher's network fails.
#[tokio::test]
async fn only_the_same_credential_takes_over_and_from_a_silent_publisher_unless_it_always_may() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
    let publish = async |holder: &str, millis: i64, takeover| {
        let since = WallTime::from_micros(1_700_000_000_000_000 + millis * 1_000);
        let info = info(since, holder);
        registry.publish("live/me".parse().unwrap(), info, takeover).await
    };
    let _first = publish("owner", 0, Takeover::WhenSilent).await.unwrap();
    for (holder, millis, takeover) in [
        ("thief", 3_600_000, Takeover::WhenSilent),
        ("thief", 3_600_000, Takeover::Always),
        ("owner", 1_999, Takeover::WhenSilent),
    ] {
        let refused = publish(holder, millis, takeover).await;
        let Err(PublishError::AlreadyLive { same, .. }) = refused else { panic!("{holder} at {millis} ms") };
        assert_eq!(same, holder == "owner");
    }
    let _second = publish("owner", 1_999, Takeover::Always).await.expect("it always may");
    let _third = publish("owner", 3_999, Takeover::WhenSilent).await.expect("two seconds of silence");
}

#[tokio::test]
async fn all_streams_together_keep_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let total = bytesize::ByteSize::mib(4);
    let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
    let limits = Limits { max_streams: 9, ..limits() };
    let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits, Metrics::for_test());
    let publish = async |name: &str| {
        let info = info(now(), "test");
        registry.publish(name.parse().unwrap(), info, Takeover::default()).await
    };
    let track = init(Kind::Audio, 0).track.clone();
    let samples = i64::from(track.timescale.hz()) / 50;
    let mut publishers = vec![publish("live/one").await.unwrap(), publish("live/two").await.unwrap()];
    let mut writers: Vec<_> = publishers.iter_mut().map(|it| it.add_track(track.clone()).unwrap()).collect();
    // 400 kB/s each: together twice the total within a window.
    for number in 0..2_000 {
        for writer in &mut writers {
            let (dts, data) = (number * samples, vec![0; 8_000][..].into());
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
        }
        let kept = registry.metrics.media_bytes.get();
        assert!(kept < 5 << 20, "{kept} bytes are kept");
        if registry.is_full() {
            let refused = publish("live/three").await;
            assert!(matches!(refused, Err(PublishError::NoMemory(limit)) if limit == total));
        }
    }
    assert!(registry.metrics.hits.total_bytes.get() > 0);
    for stream in registry.streams() {
        assert!(stream.windows()[0].segments.len() > 1, "each has its share");
    }
    drop((writers, publishers));
}

#[tokio::test]
async fn limits_that_are_hit_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(Config { max_bytes: bytesize::ByteSize::mib(1), ..Config::default() });
    let limits = Limits { max_streams: 1, ..limits() };
    let registry = Registry::new(config, Sequences::new(folder.path()), limits, Metrics::for_test());
    let info = || info(now(), "test");
    let mut publisher = registry.publish("live/me".parse().unwrap(), info(), Takeover::default()).await.unwrap();
    let refused = registry.publish("live/you".parse().unwrap(), info(), Takeover::default()).await;
    assert!(matches!(refused, Err(PublishError::TooManyStreams(1))));
    let track = init(Kind::Audio, 0).track.clone();
    let _writer = publish_sound(&mut publisher, 1_000, 4_000);
    while publisher.add_track(track.clone()).is_ok() {}
    let Metrics { hits, part_publish, .. } = &registry.metrics;
    assert_eq!((hits.streams.get(), hits.tracks.get()), (1, 1));
    assert!(hits.window_bytes.get() > 0);
    assert!(part_publish.get_sample_count() > 50, "parts were published");
}
#[tokio::test]
async fn a_publisher_that_breaks_a_rule_is_counted_by_its_name() {
    let rare_key_frames = Config { require_keyframes: true, ..Config::default() };
    let little_memory = Config { max_bytes: bytesize::ByteSize::mib(1), ..Config::default() };
    for (config, bytes, expected) in [(rare_key_frames, 100, (1, 0)), (little_memory, 20_000, (0, 1))] {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let registry = Registry::new(Arc::new(config), sequences, limits(), Metrics::for_test());
        let info = info(now(), "test");
        let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
        let mut writer = publisher.add_track(init(Kind::Video, 0).track.clone()).unwrap();
        let refused = (0..600).find_map(|number: i64| {
            let (dts, data) = (number * 3_000, vec![0; bytes][..].into());
            writer.write(AccessUnit { dts, pts: dts, sync: number == 0, captions: false, data }, now()).err()
        });
        assert!(refused.is_some(), "{expected:?}");
        let hits = &registry.metrics.hits;
        assert_eq!((hits.key_frames.get(), hits.segment_bytes.get()), expected);
    }
}
/// What is over has no place that somebody else needs; what is being published has.
#[tokio::test]
async fn streams_that_are_over_give_way() {
    let folder = tempfile::tempdir().unwrap();
    let total = bytesize::ByteSize::mib(1);
    let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
    let limits = Limits { max_streams: 3, ..limits() };
    let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits, Metrics::for_test());
    let publish = async |name: &str, seconds: i64| {
        let since = WallTime::from_micros(now().micros() + seconds * 1_000_000);
        let info = info(since, "test");
        registry.publish(name.parse().unwrap(), info, Takeover::default()).await
    };
    let names = || registry.streams().iter().map(|stream| stream.name().to_string()).collect::<Vec<_>>();
    for (name, seconds) in [("live/one", 0), ("live/two", 1), ("live/three", 2)] {
        let mut publisher = publish(name, seconds).await.unwrap();
        publish_sound(&mut publisher, 500, if name == "live/three" { 4_000 } else { 4 });
    }
    assert_eq!(names(), ["live/one", "live/three", "live/two"], "all of them are over, and can be watched");
    let mut four = publish("live/four", 3).await.expect("the place of the one that is over for the longest time");
    assert_eq!(names(), ["live/four", "live/three", "live/two"]);
    let mut two = publish("live/two", 4).await.expect("its own place");
    publish_sound(&mut two, 500, 4_000);
    drop(two);
    assert!(registry.is_full());
    let mut five = publish("live/five", 5).await.expect("the memory of those that are over");
    assert!(["live/five", "live/four"].iter().all(|name| names().contains(&(*name).to_owned())), "{:?}", names());
    publish_sound(&mut four, 500, 4_000);
    publish_sound(&mut five, 500, 4_000);
    let refused = publish("live/six", 6).await;
    assert!(matches!(refused, Err(PublishError::NoMemory(limit)) if limit == total), "live streams do not give way");
}
#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_can_be_watched_though_memory_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let total = bytesize::ByteSize::mib(1);
    let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
    let after_end = config.hold_back();
    let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits(), Metrics::for_test());
    let mut publishers = Vec::new();
    for name in ["live/stays", "live/ends"] {
        let info = info(now(), "test");
        let mut publisher = registry.publish(name.parse().unwrap(), info, Takeover::default()).await.unwrap();
        let writer = publish_sound(&mut publisher, 400, 2_500);
        publishers.push((publisher, writer));
    }
    assert!(registry.is_full());
    let state = || registry.stream(&"live/ends".parse().unwrap()).map(|stream| stream.state());
    drop(publishers.pop());
    tokio::time::sleep(after_end - Duration::from_secs(1)).await;
    assert_eq!(state(), Some(State::Ended));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(state(), None, "a stream that is live needs its memory");
    assert_eq!(registry.streams().len(), 1);
}
