//! What the API and the pages say about streams.

use super::common::media::Source;
use super::common::publisher::Publisher;
use super::common::server::Server;

#[test]
fn a_live_stream_is_listed_with_its_tracks() {
    let server = Server::start();
    assert!(server.stream("show").is_none(), "nothing is live yet");
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    let stream = server.stream("show").expect("it is live");
    assert_eq!(stream["state"], "live");
    assert_eq!(stream["publisher"]["protocol"], "rtmp");
    let tracks = stream["tracks"].as_array().expect("tracks");
    let video = tracks.iter().find(|track| track["kind"] == "video").expect("a video track");
    assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(320), Some(180)));
    assert!(tracks.iter().any(|track| track["kind"] == "audio"), "an audio track: {stream}");
    let listed = server.get("/api/v1/streams").text();
    assert!(listed.contains("\"show\""), "{listed}");
}

#[test]
fn pages_and_their_parts_are_served() {
    let server = Server::start();
    for (path, kind) in [
        ("/", "text/html"),
        ("/live/show", "text/html"),
        ("/assets/player.js", "text/javascript"),
        ("/assets/hls.min.js", "text/javascript"),
        ("/assets/style.css", "text/css"),
        ("/assets/icons.svg", "image/svg+xml"),
    ] {
        let response = server.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(
            response.header("content-type").is_some_and(|value| value.starts_with(kind)),
            "{path}: {:?}",
            response.header("content-type")
        );
        assert!(response.header("etag").is_some(), "{path} has an ETag");
    }
}
