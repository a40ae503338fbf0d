//! Who may publish and who may watch, as encoders and players see it.

mod callback;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::callback::{Answer, Callback};
use super::common::http::{self, Response};
use super::common::media::{Source, What, frames};
use super::common::process::{Process, run};
use super::common::publisher::Publisher;
use super::common::server::Server;
use super::common::wait_for;

/// For an encoder to be told something.
const TOLD: Duration = Duration::from_secs(20);

/// What `rillcast` prints when it is run beside the server, on the same data.
#[track_caller]
fn command_line(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rillcast"));
    command.args(arguments).current_dir(server.data()).env("RILLCAST__DATA_DIR", server.data().join("data"));
    run("rillcast", &mut command, Duration::from_secs(20))
}

/// The one word of `text` that holds `part`.
#[track_caller]
fn word<'a>(text: &'a str, part: &str) -> &'a str {
    text.split_whitespace().find(|word| word.contains(part)).unwrap_or_else(|| panic!("no {part} in {text}"))
}

#[track_caller]
fn key(server: &Server, arguments: &[&str]) -> String {
    word(&command_line(server, &[&["key", "add"], arguments].concat()), "?key=rk_").to_owned()
}

/// An encoder that is not let in: it ends, and its log holds `words`.
#[track_caller]
fn assert_refused(url: &str, words: &str) {
    assert_sent_away(url, &Source::default(), words);
}

/// An encoder that is let in or not, but not for long.
#[track_caller]
fn assert_sent_away(url: &str, source: &Source, words: &str) {
    let mut encoder = encoder(url, source);
    let status = encoder.wait(TOLD);
    assert!(encoder.log().contains(words), "ffmpeg was not told {words:?}:\n{}", encoder.log());
    assert!(!status.success(), "{url} was not sent away");
}

#[track_caller]
fn encoder(url: &str, source: &Source) -> Process {
    let file = source.file();
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "info", "-re", "-i"]).arg(&file).args(["-c", "copy", "-f", "flv", url]);
    Process::start("ffmpeg (publisher)", &mut command)
}

#[track_caller]
fn post(server: &Server, path: &str, body: &Value) -> Response {
    http::send(server.http(), "POST", path, &[], &body.to_string())
}

/// A server whose configuration lies in a file that the test may change.
#[track_caller]
fn with_file(text: &str) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("rillcast.toml");
    std::fs::write(&file, text).expect("written");
    let server = Server::start_with(&[("RILLCAST_CONFIG", file.to_str().expect("text"))]);
    (server, folder)
}

#[test]
fn keys_let_in_and_say_why_not() {
    let server = Server::start();
    let good = key(&server, &["live/show", "--max-duration", "1h"]);
    assert_refused(&server.publish_url("show"), "needs a key");
    assert_refused(&server.publish_url("show?key=rk_wrong"), "the key is not one of live/show");
    let elsewhere = key(&server, &["live/show", "--allow", "192.0.2.0/24"]);
    assert_refused(&server.publish_url(&elsewhere), "cannot be used from 127.0.0.1");
    let old = key(&server, &["live/show", "--expires", "1s"]);
    let made = Instant::now();
    wait_for("a second", TOLD, || (made.elapsed() > Duration::from_millis(1_100)).then_some(()));
    assert_refused(&server.publish_url(&old), "expired");
    let _publisher = Publisher::ffmpeg(&server.publish_url(&good), &Source::default());
    server.wait_live("show", 1);
    let listed = command_line(&server, &["key", "list"]);
    assert!(listed.contains("from 192.0.2.0/24") && listed.contains("at most 1h"), "{listed}");
    assert!(!listed.contains("rk_"), "{listed}");
}

#[test]
fn limits_of_a_key_end_what_passes_them() {
    let server = Server::start();
    let all = key(&server, &["live/*", "--max-height", "360", "--max-publishers", "1"]);
    let secret = all.split_once('?').expect("a key").1.to_owned();
    let url = |name: &str| server.publish_url(&format!("{name}?{secret}"));
    let large = Source { width: 640, height: 480, seconds: 10, ..Source::default() };
    assert_sent_away(&url("large"), &large, "640x480, the most");
    assert!(server.stream("large").is_none_or(|stream| stream["state"] != "live"), "it never goes live");
    let _publisher = Publisher::ffmpeg(&url("one"), &Source::default());
    server.wait_live("one", 1);
    assert_refused(&url("two"), "1 already, of 1");

    let slow = key(&server, &["other/slow", "--max-bitrate", "200k"]);
    let url = format!("rtmp://{}/other/{slow}", server.rtmp());
    assert_sent_away(&url, &Source::default(), "lower the bit rate");
    let short = key(&server, &["other/short", "--max-duration", "3s"]);
    let url = format!("rtmp://{}/other/{short}", server.rtmp());
    assert_sent_away(&url, &Source::default(), "3s of publishing are over");
}

#[test]
fn an_encoder_whose_key_frames_are_rare_is_sent_away_where_they_are_required() {
    let server = Server::start_with(&[("RILLCAST__PACKAGER__REQUIRE_KEYFRAMES", "true")]);
    let rare = Source { gop: 600, ..Source::default() };
    assert_sent_away(&server.publish_url("rare"), &rare, "key frames must come at least every 4 s");
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 3);
    let multivariant = server.get("/live/show/index.m3u8").text();
    assert!(multivariant.contains("#EXT-X-INDEPENDENT-SEGMENTS\n"), "{multivariant}");
}

#[test]
fn tokens_publish_and_watch_until_they_expire() {
    let (server, _folder) = with_file("[access.apps.live]\nwatch = \"token\"\n");
    let _publishing = key(&server, &["live/show"]);
    let made = command_line(&server, &["token", "publish", "live/show", "--expires", "2h"]);
    let _publisher = Publisher::ffmpeg_looping(&server.publish_url(word(&made, "?token=")), &Source::default());
    let made = command_line(&server, &["token", "watch", "live/show", "--expires", "2h"]);
    let page = word(&made, "/t/").split_once("/t/").expect("a path").1.to_owned();
    let token = page.split_once('/').expect("a token").0.to_owned();
    let under = |path: &str| format!("/t/{token}{path}");
    wait_for("the stream to be watched by token", Duration::from_secs(30), || {
        (server.get(&under("/live/show/manifest.mpd")).status == 200).then_some(())
    });
    assert!(server.stream("show").is_some(), "this machine sees it");
    for path in ["/api/v1/streams", "/api/v1/streams/live/show"] {
        let seen = http::send(server.http(), "GET", path, &[("x-forwarded-for", "192.0.2.1")], "");
        assert!(!seen.text().contains("tracks"), "{path} tells others of it: {}", seen.text());
    }
    for path in ["/live/show/index.m3u8", "/live/show/manifest.mpd", "/live/show"] {
        let plain = server.get(path);
        assert_eq!(plain.status, 403, "{path}");
        assert_eq!(plain.header("content-type"), Some("application/problem+json"));
        assert_eq!(plain.header("access-control-allow-origin"), Some("*"));
        assert_eq!(server.get(&under(path)).status, 200, "{path} with a token");
    }
    assert_eq!(server.get(&under("/time")).status, 200);
    assert_eq!(server.get(&under("/live/other/index.m3u8")).status, 403);
    // The player follows what the playlists say: nothing in them leads out of the signed URLs.
    for path in ["/live/show/index.m3u8", "/live/show/manifest.mpd"] {
        let seen = frames(&server.url(&under(path)), What::Pictures, Some(4));
        assert!(seen.len() >= 60, "{} pictures of {path} in 4 s", seen.len());
    }

    let made = post(&server, "/api/v1/tokens", &json!({"action": "watch", "stream": "live/*", "expires_in": 1}));
    assert_eq!(made.status, 201, "{}", made.text());
    let signed: Value = serde_json::from_str(&made.text()).expect("JSON");
    let short = signed["token"].as_str().expect("a token").to_owned();
    assert_eq!(server.get(&format!("/t/{short}/live/show/index.m3u8")).status, 200);
    wait_for("the token to expire, with its leeway of 30 s", Duration::from_secs(40), || {
        (server.get(&format!("/t/{short}/live/show/index.m3u8")).status == 403).then_some(())
    });
    assert_eq!(server.get(&under("/live/show/index.m3u8")).status, 200, "the other one is good still");
}

#[test]
fn the_callback_lets_in_and_turns_away() {
    let callback = Callback::start();
    let (server, _folder) = with_file(&format!("[access.callback]\nurl = \"{}\"\ntimeout = \"1s\"\n", callback.url()));
    callback.answer(Answer::No("you are banned until Monday"));
    assert_refused(&server.publish_url("banned?user=anna"), "you are banned until Monday");
    let asked = callback.last();
    for (field, wanted) in [("action", "publish"), ("app", "live"), ("name", "banned"), ("query", "user=anna")] {
        assert_eq!(asked[field], wanted, "{asked}");
    }
    callback.answer(Answer::Hang);
    assert_refused(&server.publish_url("hangs"), "cannot ask whether you may publish");
    callback.answer(Answer::Yes);
    let publisher = Publisher::ffmpeg(&server.publish_url("show?user=bert"), &Source::default());
    server.wait_live("show", 1);
    publisher.stop();
    callback.stop();
    assert_refused(&server.publish_url("down"), "cannot ask whether you may publish");
}

#[test]
fn a_callback_that_is_down_lets_everybody_in_where_the_configuration_says_so() {
    let (server, _folder) =
        with_file("[access.callback]\nurl = \"http://127.0.0.1:1/\"\ntimeout = \"1s\"\non_failure = \"allow\"\n");
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
}

#[test]
fn a_publisher_is_kicked_and_its_key_taken_back() {
    let server = Server::resuming("30s");
    let made = post(&server, "/api/v1/keys", &json!({"stream": "live/show"}));
    let made: Value = serde_json::from_str(&made.text()).expect("JSON");
    let url = server.publish_url(made["stream_key"].as_str().expect("a key"));
    let mut first = encoder(&url, &Source::default());
    server.wait_live("show", 1);
    let kicked = post(&server, "/api/v1/streams/live/show/kick", &json!({"words": "the show is over"}));
    assert_eq!(kicked.status, 204, "{}", kicked.text());
    first.wait(TOLD);
    assert!(first.log().contains("the show is over"), "ffmpeg was not told:\n{}", first.log());
    wait_for("the stream to be free", TOLD, || {
        server.stream("show").is_none_or(|stream| stream["state"] != "live").then_some(())
    });

    let mut second = encoder(&url, &Source::default());
    wait_for("the publisher to be back", TOLD, || server.stream("show").filter(|stream| stream["state"] == "live"));
    let path = format!("/api/v1/keys/{}?kick=true", made["id"].as_str().expect("an id"));
    assert_eq!(http::send(server.http(), "DELETE", &path, &[], "").status, 204);
    second.wait(TOLD);
    let epoch = server.stream("show").expect("it waits for its publisher")["epoch"].clone();
    let again = post(&server, "/api/v1/streams/live/show/kick", &json!(null));
    assert_eq!(again.status, 409, "nobody is there: {}", again.text());
    let other = key(&server, &["live/show"]);
    assert_refused(&url, "the key is not one of live/show");
    let _third = Publisher::ffmpeg(&server.publish_url(&other), &Source::default());
    let live = || server.stream("show").filter(|stream| stream["state"] == "live");
    wait_for("the other key to work", TOLD, live);
    assert_eq!(server.stream("show").expect("it goes on")["epoch"], epoch, "viewers stayed");
    assert_eq!(post(&server, "/api/v1/streams/live/show/end", &json!({"words": "good night"})).status, 204);
    assert!(server.get("/live/show/index.m3u8").status == 200, "its end can be watched");
    assert_eq!(server.stream("show").expect("a short while ago")["state"], "ended");
    assert_eq!(post(&server, "/api/v1/streams/live/show/end", &json!(null)).status, 409);
}

#[test]
fn the_api_wants_its_key_once_there_is_one() {
    let server = Server::start();
    let reload = |headers: &[(&str, &str)]| http::send(server.http(), "POST", "/api/v1/reload", headers, "").status;
    assert_eq!(reload(&[]), 200, "this machine, and no API key yet");
    assert_eq!(reload(&[("X-Forwarded-For", "127.0.0.1")]), 403);
    assert_eq!(reload(&[("Origin", "https://evil.example")]), 403);
    let made = command_line(&server, &["key", "add", "--api"]);
    let bearer = format!("Bearer {}", word(&made, "ra_"));
    assert_eq!(reload(&[]), 401);
    assert_eq!(reload(&[("Authorization", "Bearer ra_wrong")]), 401);
    assert_eq!(reload(&[("Authorization", &bearer), ("X-Forwarded-For", "192.0.2.1")]), 200);
    assert_eq!(server.get("/api/v1/streams").status, 200, "reading stays open");
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    let peer = |headers: &[(&str, &str)]| {
        let answer = http::send(server.http(), "GET", "/api/v1/streams/live/show", headers, "");
        serde_json::from_str::<Value>(&answer.text()).expect("JSON")["publisher"]["peer"].clone()
    };
    assert!(
        peer(&[]).is_null() && peer(&[("Authorization", &bearer)]).is_string(),
        "where a publisher is, is not for all"
    );
}

/// RELIABILITY row 123.
#[test]
fn a_reload_takes_effect_whole_or_not_at_all() {
    let (mut server, folder) = with_file("");
    let file = folder.path().join("rillcast.toml");
    let _publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    assert_eq!(plain(&server), 200);

    std::fs::write(&file, "[access]\nwatch = \"token\"\n[edge]\nmax_waiting = 7\n").expect("written");
    let answer = post(&server, "/api/v1/reload", &json!(null));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let reloaded: Value = serde_json::from_str(&answer.text()).expect("JSON");
    assert_eq!(reloaded, json!({"changed": ["access.watch"], "restart": ["edge.max_waiting"]}));
    assert_eq!(plain(&server), 403);

    for wrong in ["[access]\nwatch = \"sometimes\"\n", "[acces]\n", "[log]\nfilter = \"=,=\"\n", "[access"] {
        std::fs::write(&file, wrong).expect("written");
        let answer = post(&server, "/api/v1/reload", &json!(null));
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
        assert_eq!(plain(&server), 403, "what was in force stays in force");
    }
    for secret in ["[access]\ntoken_secrets = \"hidden\"\n", "[access]\ntoken_secrets = [\"hidden]\n"] {
        std::fs::write(&file, secret).expect("written");
        let answer = post(&server, "/api/v1/reload", &json!(null));
        assert_eq!(answer.status, 422, "{secret}");
        assert!(!answer.text().contains("hidden"), "{}", answer.text());
    }
    std::fs::write(&file, "\n").expect("written");
    assert_eq!(
        post(&server, "/api/v1/reload", &json!(null)).status,
        422,
        "an editor empties a file before it writes it"
    );
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(post(&server, "/api/v1/reload", &json!(null)).status, 422, "the file has gone");
    assert_eq!(plain(&server), 403, "neither opens anything");
    server.process().signal("HUP");
    server.process().wait_for_log("is wrong, so nothing changes", TOLD);
    assert!(!server.log().contains("hidden"), "{}", server.log());
    assert_eq!(plain(&server), 403);

    std::fs::write(&file, "[access]\npublish_from = [\"192.0.2.0/24\"]\n[log]\nfilter = \"rillcast=debug\"\n")
        .expect("written");
    server.process().signal("HUP");
    wait_for("the reload by SIGHUP", TOLD, || (plain(&server) == 200).then_some(()));
    assert_refused(&server.publish_url("other"), "publishing from 127.0.0.1 is not allowed");
    assert_eq!(server.stream("show").expect("it goes on")["state"], "live", "who publishes is not asked again");
    assert!(server.log().contains("log.filter"), "the log says what changed");
}

fn plain(server: &Server) -> u16 {
    server.get("/live/show/index.m3u8").status
}

#[test]
fn a_certificate_is_replaced_without_a_restart() {
    let (server, folder) = with_file("");
    let shown = || {
        let script = format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            server.https()
        );
        run("openssl", Command::new("sh").args(["-c", &script]), TOLD)
    };
    let before = shown();
    let (certificate, private_key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]);
    openssl.args(["-subj", "/CN=localhost", "-set_serial", "0x0123456789", "-keyout"]).arg(&private_key);
    run("openssl", openssl.arg("-out").arg(&certificate), TOLD);
    let text = format!("[edge]\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\n");
    std::fs::write(folder.path().join("rillcast.toml"), text).expect("written");
    assert_eq!(post(&server, "/api/v1/reload", &json!(null)).status, 200);
    assert!(shown().contains("0123456789"), "{} instead of {before}", shown());
    std::fs::write(&certificate, "nonsense").expect("written");
    assert_eq!(post(&server, "/api/v1/reload", &json!(null)).status, 422);
    assert!(shown().contains("0123456789"), "the good one stays");
}

/// What would be wrong when the server starts, or what was asked for is wrong now, is said by the command line.
#[test]
fn the_command_line_refuses_what_would_not_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |variables: &[(&str, &str)], arguments: &[&str], words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rillcast"));
        command.args(arguments).current_dir(folder.path()).envs(variables.iter().copied());
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(words), "{arguments:?} {variables:?}: {told}");
    };
    let check = &["check-config"];
    let certificate = [("RILLCAST__EDGE__CERTIFICATE", "/nope.pem"), ("RILLCAST__EDGE__PRIVATE_KEY", "/nope.pem")];
    refused(&certificate, check, "edge.certificate: /nope.pem");
    refused(&[("RILLCAST__LOG__FILTER", "rillcast=loud")], check, "log.filter");
    refused(&[("RILLCAST__PACKAGER__PART_HOLD_BACK", "100s")], check, "packager.part_hold_back");
    refused(&[], &["key", "add", "live/me", "--expires", "0s"], "--expires must be at least 1s");
    refused(&[], &["token", "watch", "live/me", "--expires", "0s"], "--expires must be at least 1s");
    let mut good = Command::new(env!("CARGO_BIN_EXE_rillcast"));
    run("rillcast", good.args(check).current_dir(folder.path()), TOLD);
}
