//! A server's stop and the next start, over one data folder and without a server.

use super::*;
use crate::media::{AccessUnit, Kind, Takeover};
use crate::packager::live::{Limits, Metrics, Publisher, State};
use crate::packager::sequence::Sequences;
use crate::packager::testing::{init, video_track};
use crate::packager::{Config, Window};

const WINDOW: Duration = Duration::from_secs(30);

/// One run of a server.
struct Run {
    registry: Arc<Registry>,
    shelf: Shelf,
}

fn name() -> StreamName {
    "live/me".parse().expect("a good name")
}

fn info(name: &str) -> PublisherInfo {
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 50_000));
    PublisherInfo { protocol: "rtmp", peer, since: now(), holder: name.into() }
}

impl Run {
    fn start_with(folder: &Path, config: Config, resume_window: Duration, max_bytes: u64) -> Self {
        let limits = Limits { max_streams: 400, resume_window };
        let registry = Registry::new(Arc::new(config), Sequences::new(folder), limits, Metrics::for_test());
        let shelf = Shelf::new(folder, max_bytes);
        registry.take_up(&shelf);
        Self { registry, shelf }
    }

    fn start(folder: &Path) -> Self {
        Self::start_with(folder, Config::default(), WINDOW, 1 << 30)
    }

    /// Publishes `seconds` of sound that ends now.
    async fn publish(&self, seconds: i64) -> Publisher {
        self.publish_as(name(), seconds).await
    }

    async fn publish_as(&self, name: StreamName, seconds: i64) -> Publisher {
        let info = info("test");
        let since = info.since;
        let mut publisher = self.registry.publish(name, info, Takeover::default()).await.expect("the name is free");
        let track = init(Kind::Audio, 0).track.clone();
        let samples = i64::from(track.timescale.hz()) / 50;
        let mut writer = publisher.add_track(track).expect("a good track");
        for number in 0..seconds * 50 {
            let (dts, data) = (number * samples, [7; 40][..].into());
            let arrived = since.plus_micros(number * 20_000 - seconds * 1_000_000);
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, arrived).expect("good media");
        }
        publisher
    }

    async fn stop(self, publisher: Option<Publisher>) {
        self.registry.begin_stop();
        drop(publisher);
        self.registry.put_down(&self.shelf, Duration::from_secs(5)).await;
    }

    fn window(&self) -> Option<Arc<Window>> {
        self.registry.stream(&name()).and_then(|stream| stream.windows().first().cloned())
    }

    fn is_live_or_waits(&self) -> Option<State> {
        self.registry.stream(&name()).map(|stream| stream.state())
    }
}

fn media(window: &Window) -> Vec<(u64, Vec<bytes::Bytes>)> {
    let with_media = window.segments.iter().filter(|segment| !segment.is_gap());
    with_media.map(|segment| (segment.msn, vec![segment.slices().flatten().collect()])).collect()
}

fn file(folder: &Path) -> PathBuf {
    folder.join("resume/live/me.window")
}

#[tokio::test]
async fn what_viewers_had_is_there_again_and_waits_for_its_publisher() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    let (stream, epoch) = (Arc::clone(publisher.stream()), publisher.stream().epoch());
    run.stop(Some(publisher)).await;
    let before = stream.windows().remove(0);
    assert!(file(folder.path()).exists());

    let run = Run::start(folder.path());
    assert!(!folder.path().join("resume").exists(), "a file is good once");
    let after = run.window().expect("it is there");
    assert_eq!(run.is_live_or_waits(), Some(State::Waiting));
    assert_eq!(run.registry.stream(&name()).map(|stream| stream.epoch()), Some(epoch));
    assert_eq!(media(&before), media(&after));
    assert!(!media(&after).is_empty() && after.version > before.version && after.next_part == before.next_part);
    assert_eq!(after.rendition.init.bytes, before.rendition.init.bytes);

    let publisher = run.publish(4).await;
    assert_eq!(publisher.stream().epoch(), epoch, "the publisher goes on with it");
    let window = run.window().expect("it is live");
    assert!(window.open_msn > before.open_msn && window.segments.iter().all(|segment| !segment.discontinuity));
    let numbers: Vec<u64> = window.segments.iter().map(|segment| segment.msn).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
}

#[tokio::test]
async fn a_second_stop_puts_down_what_waits_still() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(10).await;
    let epoch = publisher.stream().epoch();
    run.stop(Some(publisher)).await;
    let run = Run::start(folder.path());
    let before = run.window().expect("it is there");
    run.stop(None).await;
    let run = Run::start(folder.path());
    let after = run.window().expect("it is there again");
    assert_eq!(after.rendition.epoch, epoch);
    assert!(after.open_msn >= before.open_msn && media(&after) == media(&before));
}

#[tokio::test]
async fn numbers_never_go_back_and_no_file_is_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    let epoch = publisher.stream().epoch();
    run.stop(Some(publisher)).await;
    let copy = std::fs::read(file(folder.path())).unwrap();

    // The next run takes it up, goes on, and is killed.
    let run = Run::start(folder.path());
    let publisher = run.publish(8).await;
    let highest = run.window().expect("it is live").open_msn;
    run.registry.begin_stop();
    drop((run, publisher));

    // Somebody has copied the old file back, which says that those numbers are free.
    std::fs::create_dir_all(file(folder.path()).parent().unwrap()).unwrap();
    std::fs::write(file(folder.path()), &copy).unwrap();
    let run = Run::start(folder.path());
    assert_eq!(run.is_live_or_waits(), None, "it is stale");
    assert!(!file(folder.path()).exists());
    let publisher = run.publish(8).await;
    assert!(publisher.stream().epoch() > epoch);
    let window = run.window().expect("it is live");
    assert!(window.segments[0].msn > highest, "{} after {highest}", window.segments[0].msn);
}

#[tokio::test]
async fn what_is_wrong_with_a_file_costs_its_stream_the_epoch_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    let epoch = publisher.stream().epoch();
    run.stop(Some(publisher)).await;
    let good = std::fs::read(file(folder.path())).unwrap();
    let put = |bytes: &[u8], at: &str| {
        let path = folder.path().join("resume").join(at);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let mut newer = good.clone();
    newer[19] = 99;
    for (what, bytes, at) in [
        ("cut short", &good[..good.len() - 9], "live/me.window"),
        ("empty", &[][..], "live/me.window"),
        ("altered", &flipped, "live/me.window"),
        ("of another version", &newer, "live/me.window"),
        ("foreign", b"#!/bin/sh\necho hello from a script that got lost\n", "live/me.window"),
        ("of another stream", &good, "live/you.window"),
        ("half written", &good, "live/.tmpAbC123"),
    ] {
        put(bytes, at);
        let run = Run::start(folder.path());
        assert!(run.registry.streams().is_empty(), "{what}");
        assert!(!folder.path().join("resume").exists(), "{what}");
    }
    let packaging = Config { part_target: Duration::from_millis(300), ..Config::default() };
    for (what, config, window, max_bytes) in [
        ("[packager] has changed", packaging, WINDOW, 1 << 30),
        ("nothing is waited for", Config::default(), Duration::ZERO, 1 << 30),
        ("it is too old", Config::default(), Duration::from_micros(1), 1 << 30),
        ("nothing is to be kept", Config::default(), WINDOW, 0),
        ("it is too large", Config { max_bytes: bytesize::ByteSize::mib(64), ..Config::default() }, WINDOW, 1),
    ] {
        put(&good, "live/me.window");
        if max_bytes == 1 {
            put(&[0; 3 << 20], "live/me.window");
        }
        let run = Run::start_with(folder.path(), config, window, max_bytes);
        assert!(run.registry.streams().is_empty(), "{what}");
        assert!(!folder.path().join("resume").exists(), "{what}");
    }
    // A pipe in its place would be waited on for ever.
    std::fs::create_dir_all(folder.path().join("resume/live/me.window/inside")).unwrap();
    let run = Run::start(folder.path());
    assert!(run.registry.streams().is_empty());
    let publisher = run.publish(8).await;
    assert!(publisher.stream().epoch() > epoch);
    drop((run, publisher));
    // What lies elsewhere is left alone.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("me.window"), &good).unwrap();
    std::fs::create_dir_all(folder.path().join("resume")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("resume/live")).unwrap();
    assert!(Run::start(folder.path()).registry.streams().is_empty());
    assert!(elsewhere.path().join("me.window").exists() && !folder.path().join("resume").exists());
}

#[tokio::test]
async fn hundreds_of_streams_go_on_each_with_what_it_had() {
    const STREAMS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let mut publishers = Vec::new();
    for number in 0..STREAMS {
        let name = StreamName::new(["live", "show"][number % 2], &format!("s{number}")).unwrap();
        publishers.push(run.publish_as(name, 4 + number as i64 % 9).await);
    }
    let streams: Vec<_> = publishers.iter().map(|publisher| Arc::clone(publisher.stream())).collect();
    run.registry.begin_stop();
    drop(publishers);
    let began = Instant::now();
    run.registry.put_down(&run.shelf, Duration::from_secs(60)).await;
    let put_down = began.elapsed();
    let began = Instant::now();
    let run = Run::start(folder.path());
    println!("{STREAMS} streams put down in {put_down:?}, taken up in {:?}", began.elapsed());
    assert_eq!(run.registry.streams().len(), STREAMS);
    for before in streams {
        let after = run.registry.stream(&before.name).expect("it is there");
        assert_eq!((after.epoch(), after.state()), (before.epoch(), State::Waiting), "{}", before.name);
        assert_eq!(media(&before.windows()[0]), media(&after.windows()[0]), "{}", before.name);
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_costs_the_epoch_rather_than_date_media_in_the_future() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    let epoch = publisher.stream().epoch();
    run.stop(Some(publisher)).await;
    let good = std::fs::read(file(folder.path())).unwrap();
    for (set_back, goes_on) in [(1_000_000, true), (5_000_000, false)] {
        // As if it had been put down so much later than it was.
        let (mut header, payload) = saved::read(&good).unwrap();
        header.left_micros = now().micros() + set_back;
        let presentation = &mut header.presentation;
        presentation.clock_offset_micros += header.left_micros - now().micros();
        let mut later = Vec::new();
        saved::write(&header, &[bytes::Bytes::copy_from_slice(payload)], &mut later).unwrap();
        std::fs::create_dir_all(file(folder.path()).parent().unwrap()).unwrap();
        std::fs::write(file(folder.path()), &later).unwrap();
        let numbers = std::fs::read(folder.path().join("sequences/live/me.json")).unwrap();
        let run = Run::start(folder.path());
        let went_on = run.registry.stream(&name()).map(|stream| stream.epoch());
        assert_eq!(went_on, goes_on.then_some(epoch), "{set_back} µs");
        std::fs::write(folder.path().join("sequences/live/me.json"), numbers).unwrap();
    }
}

#[tokio::test]
async fn what_is_named_like_a_window_and_is_none_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), 1 << 30);
    let app = folder.path().join("resume/live");
    std::fs::create_dir_all(app.join("folder.window")).unwrap();
    std::os::unix::fs::symlink("/dev/null", app.join("link.window")).unwrap();
    std::os::unix::fs::symlink("/dev", folder.path().join("resume/show")).unwrap();
    for (name, bytes) in [("plain.window", "twelve bytes"), (".tmpAbC123", "half written"), ("~.window~", "not ours")] {
        std::fs::write(app.join(name), bytes).unwrap();
    }
    let (found, mut strange) = shelf.files();
    strange.sort();
    assert_eq!(strange, [app.join("folder.window"), app.join("link.window"), folder.path().join("resume/show")]);
    let found: Vec<_> = found.iter().map(|found| (found.name.to_string(), found.bytes)).collect();
    assert_eq!(found, [("live/plain".to_owned(), 12)]);
}

#[tokio::test]
async fn another_limit_on_memory_costs_viewers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    let epoch = publisher.stream().epoch();
    run.stop(Some(publisher)).await;
    let config = Config { max_bytes: bytesize::ByteSize::mib(1), ..Config::default() };
    let run = Run::start_with(folder.path(), config, WINDOW, 1 << 30);
    assert_eq!(run.window().expect("it goes on").rendition.epoch, epoch);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_does_not_keep_the_server_from_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    // Stands for a full or read-only disk, which root would not notice in a test.
    std::fs::write(folder.path().join("resume"), "no folder").unwrap();
    let highest = publisher.stream().windows()[0].open_msn;
    run.stop(Some(publisher)).await;
    std::fs::remove_file(folder.path().join("resume")).unwrap();
    let run = Run::start(folder.path());
    let publisher = run.publish(8).await;
    assert!(publisher.stream().windows()[0].segments[0].msn > highest);
}

#[tokio::test]
async fn the_disk_is_given_so_much_room_and_time_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start_with(folder.path(), Config::default(), WINDOW, 1_000);
    let publisher = run.publish(20).await;
    run.stop(Some(publisher)).await;
    assert!(!file(folder.path()).exists(), "it does not fit into 1,000 bytes");
    let run = Run::start(folder.path());
    let publisher = run.publish(20).await;
    run.registry.begin_stop();
    drop(publisher);
    run.registry.put_down_until(&run.shelf, Instant::now());
    assert!(!file(folder.path()).exists(), "there was no time");
}

#[tokio::test]
async fn a_publisher_that_is_still_there_when_its_stream_is_put_down_writes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::start(folder.path());
    let mut publisher = run.publish(10).await;
    run.registry.begin_stop();
    run.registry.put_down(&run.shelf, Duration::from_secs(5)).await;
    let mut writer = publisher.add_track(video_track()).expect("a good track");
    let unit = AccessUnit { dts: 0, pts: 0, sync: true, captions: false, data: [0; 9][..].into() };
    assert!(matches!(writer.write(unit, now()), Err(crate::packager::live::WriteError::Ended)));
}
