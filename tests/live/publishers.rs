//! Encoders that are not ffmpeg, and encoders that come and go.

use std::time::Duration;

use super::common::media::{Source, What, frames, probe};
use super::common::publisher::Publisher;
use super::common::server::Server;
use super::common::wait_for;

#[test]
fn gstreamer_publishes() {
    let server = Server::start();
    let _publisher = Publisher::gstreamer(&server.publish_url("gst"), &Source::default());
    server.wait_live("gst", 2);
    let streams = probe(&server.url("/live/gst/index.m3u8"));
    let codecs: Vec<_> = streams["streams"]
        .as_array()
        .expect("streams")
        .iter()
        .map(|stream| stream["codec_name"].as_str().expect("a name"))
        .collect();
    assert!(codecs.contains(&"h264") && codecs.contains(&"aac"), "{codecs:?}");
    let seen = frames(&server.url("/live/gst/index.m3u8"), What::Pictures, Some(4));
    assert!(seen.len() >= 60, "{} pictures in 4 s", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].pts < pair[1].pts), "presentation times go up");
}

#[test]
fn stream_ends_when_its_publisher_says_so() {
    let server = Server::start();
    let publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    assert_eq!(server.stream("show").expect("it is live")["state"], "live");
    publisher.stop();
    wait_for("the end of the stream", Duration::from_secs(10), || {
        server.stream("show").is_none_or(|stream| stream["state"] == "ended").then_some(())
    });
}

#[test]
fn stream_comes_back_after_its_publishers_connection_broke() {
    let server = Server::start();
    let publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    publisher.cut();
    // Whether the same life of the stream goes on or a new one begins is another test's affair.
    wait_for("the stream to be no longer live", Duration::from_secs(10), || {
        server.stream("show").is_none_or(|stream| stream["state"] != "live").then_some(())
    });
    let _back = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    wait_for("the stream to go on", Duration::from_secs(10), || {
        server.stream("show").filter(|stream| stream["state"] == "live")
    });
}
