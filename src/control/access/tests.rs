//! Decisions over a real key store and a real callback server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::control::keys::Conditions;
use crate::media::wall_clock::now;
use crate::media::{Limits, Takeover};

struct House {
    access: Arc<Access>,
    folder: tempfile::TempDir,
}

fn house(config: &Config) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = callback::Metrics::register(&prometheus::Registry::new()).expect("fresh names");
    let keys = Arc::new(KeyStore::new(folder.path()));
    let access = Access::new(config, keys, folder.path(), metrics).expect("a good configuration");
    House { access, folder }
}

impl House {
    fn key(&self, stream: &str, conditions: Conditions) -> String {
        let made = self.access.keys().add(&stream.parse().expect("a pattern"), conditions, now()).expect("made");
        made.paste.split_once('=').expect("a key").1.to_owned()
    }

    fn token(&self, action: Action, stream: &str, seconds: i64) -> String {
        let exp = now().millis() / 1_000 + seconds;
        let stream = stream.parse().expect("a pattern");
        let claims = Claims { action, stream, exp, nbf: None, ip: None, sub: Some("anna".into()) };
        token::sign(&self.access.secrets().signing().expect("made"), &claims)
    }

    async fn publish(&self, stream: &str, credential: Credential<'_>, ip: &str) -> Result<Grant, Refusal> {
        let query = match credential {
            Credential::None => String::new(),
            Credential::Key(key) => format!("key={key}"),
            Credential::Token(token) => format!("token={token}"),
        };
        let stream = stream.parse().expect("a name");
        let peer = SocketAddr::new(ip.parse().expect("an address"), 50_000);
        let request = PublishRequest { stream: &stream, credential, query: &query, peer, protocol: "rtmp" };
        self.access.may_publish(request, now()).await
    }
}

/// A server that gives `answer` to everyone, and counts; with an empty answer it says nothing for ever.
async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>, Arc<parking_lot::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/ask", listener.local_addr().expect("bound"));
    let (count, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(parking_lot::Mutex::new(String::new())));
    let (counting, hearing) = (Arc::clone(&count), Arc::clone(&heard));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::Relaxed);
            let mut text = String::new();
            while !text.contains('}') {
                let mut buffer = [0; 4_096];
                let Ok(count @ 1..) = socket.read(&mut buffer).await else { break };
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            *hearing.lock() = text;
            let _ = socket.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                kept.push(socket);
            }
        }
    });
    (url, count, heard)
}

fn asking(url: String) -> Config {
    let callback = callback::Config { url: Some(url), timeout: Duration::from_millis(300), ..Default::default() };
    Config { callback, ..Config::default() }
}

const YES: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nno ticket";

#[tokio::test]
async fn keys_carry_their_conditions_and_the_servers_fill_the_rest() {
    let limits = Limits { max_bitrate: Some(1), max_width: Some(2), ..Limits::default() };
    let house = house(&Config { limits, ..Config::default() });
    let own = Limits { max_bitrate: Some(9), ..Limits::default() };
    let key = house.key("live/me", Conditions { takeover: Takeover::Always, limits: own, ..Conditions::default() });
    let grant = house.publish("live/me", Credential::Key(&key), "192.0.2.1").await.expect("let in");
    assert_eq!((grant.takeover, grant.limits), (Takeover::Always, own.or(limits)));
    assert!(grant.holder.starts_with("key ") && !grant.holder.contains(&key));
    let here = house.publish("live/other", Credential::None, "127.0.0.1").await.expect("let in");
    assert_eq!((here.holder.as_str(), here.limits), (THIS_MACHINE, limits));
    let no = house.publish("live/other", Credential::None, "192.0.2.1").await.expect_err("from elsewhere");
    assert_eq!(no.kind, RefusalKind::Denied);
}

#[tokio::test]
async fn a_key_publishes_so_many_streams_at_a_time() {
    let house = house(&Config::default());
    let key = house.key("live/*", Conditions { max_publishers: Some(1), ..Conditions::default() });
    let first = house.publish("live/a", Credential::Key(&key), "192.0.2.1").await.expect("let in");
    let no = house.publish("live/b", Credential::Key(&key), "192.0.2.1").await.expect_err("one is the most");
    assert_eq!((no.kind, no.words.contains("1 already, of 1")), (RefusalKind::Denied, true), "{}", no.words);
    drop(first);
    assert!(house.publish("live/b", Credential::Key(&key), "192.0.2.1").await.is_ok());
}

#[tokio::test]
async fn tokens_publish_from_anywhere_until_they_expire() {
    let house = house(&Config::default());
    house.key("live/me", Conditions::default());
    let token = house.token(Action::Publish, "live/me", 60);
    let grant = house.publish("live/me", Credential::Token(&token), "192.0.2.1").await.expect("let in");
    assert_eq!(grant.holder, "token of anna");
    for (token, words) in [
        (house.token(Action::Publish, "live/me", -60), "expired"),
        (house.token(Action::Watch, "live/me", 60), "something else"),
        (house.token(Action::Publish, "live/you", 60), "another stream"),
        ("nonsense".into(), "not one that this server takes"),
    ] {
        let no = house.publish("live/me", Credential::Token(&token), "127.0.0.1").await.expect_err(words);
        assert!(no.kind == RefusalKind::Unauthorized && no.words.contains(words), "{}", no.words);
    }
}

#[tokio::test]
async fn address_ranges_come_before_keys_and_can_change() {
    let house = house(&Config::default());
    let key = house.key("live/me", Conditions::default());
    let publish_from = vec!["192.0.2.0/24".parse().expect("a range")];
    house.access.configure(&Config { publish_from, ..Config::default() }).expect("good");
    assert!(house.publish("live/me", Credential::Key(&key), "192.0.2.9").await.is_ok());
    let no = house.publish("live/me", Credential::Key(&key), "198.51.100.9").await.expect_err("outside");
    assert!(no.kind == RefusalKind::Denied && no.words.contains("198.51.100.9"));
    house.access.configure(&Config::default()).expect("good");
    assert!(house.publish("live/me", Credential::Key(&key), "198.51.100.9").await.is_ok());
}

/// RELIABILITY row 107.
#[tokio::test]
async fn guessing_is_slowed_down_for_the_one_who_guesses() {
    let house = house(&Config::default());
    let key = house.key("live/me", Conditions::default());
    for guess in 0..11 {
        let no =
            house.publish("live/me", Credential::Key(&format!("rk_{guess}")), "192.0.2.1").await.expect_err("a guess");
        assert_eq!(no.kind, RefusalKind::Unauthorized, "guess {guess}");
    }
    let no = house.publish("live/me", Credential::Key("rk_x"), "192.0.2.1").await.expect_err("a guess");
    assert!(no.kind == RefusalKind::Unavailable && no.words.contains("too many wrong keys"), "{}", no.words);
    assert!(house.publish("live/me", Credential::Key(&key), "192.0.2.2").await.is_ok(), "others are heard");
    assert!(house.publish("live/me", Credential::Key(&key), "192.0.2.1").await.is_ok(), "and so is a right key");
    let token = house.token(Action::Publish, "live/me", 60);
    assert!(house.publish("live/me", Credential::Token(&token), "192.0.2.1").await.is_ok(), "or token");
    assert!(house.publish("live/me", Credential::Key("rk_y"), "192.0.2.1").await.is_err(), "which forgives nothing");
    let no = house.publish("live/me", Credential::Key("rk_y"), "192.0.2.1").await.expect_err("a guess");
    assert_eq!(no.kind, RefusalKind::Unavailable, "{}", no.words);
}

#[tokio::test]
async fn passwords_of_the_callback_cannot_be_guessed_at_will() {
    let (url, count, _) = server(NO).await;
    let mut config = asking(url);
    config.callback.cache = Duration::ZERO;
    let house = house(&config);
    let guess = async |n: usize| {
        let (stream, query) = ("live/me".parse().expect("a name"), format!("user=anna&pass={n}"));
        let peer = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let credential = Credential::None;
        let request = PublishRequest { stream: &stream, credential, query: &query, peer, protocol: "rtmp" };
        house.access.may_publish(request, now()).await.expect_err("a guess").kind
    };
    for n in 0..11 {
        assert_eq!(guess(n).await, RefusalKind::Unauthorized, "guess {n}");
    }
    for n in 11..20 {
        assert_eq!(guess(n).await, RefusalKind::Unavailable, "guess {n}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 11, "the callback is not asked while the address is not listened to");
    let key = house.key("live/me", Conditions::default());
    assert!(house.publish("live/me", Credential::Key(&key), "192.0.2.1").await.is_ok());
}

#[tokio::test]
async fn no_answer_opens_no_stream_that_has_keys_and_lets_no_wrong_credential_in() {
    let mut config = asking("http://127.0.0.1:1/".into());
    config.callback.on_failure = OnFailure::Allow;
    let house = house(&config);
    let key = house.key("live/me", Conditions::default());
    let publish = async |stream: &str, credential| house.publish(stream, credential, "192.0.2.1").await;
    assert!(publish("live/open", Credential::None).await.is_ok());
    assert!(publish("live/me", Credential::Key(&key)).await.is_ok());
    for (stream, credential) in [
        ("live/me", Credential::None),
        ("live/me", Credential::Key("rk_wrong")),
        ("live/open", Credential::Key("rk_wrong")),
        ("live/open", Credential::Token("a.b.c")),
    ] {
        let no = publish(stream, credential).await.expect_err(stream);
        assert_eq!(no.kind, RefusalKind::Unavailable, "{}", no.words);
    }
    let no = house.publish("live/open", Credential::Key("rk_wrong"), "127.0.0.1").await;
    assert!(no.is_err(), "nor on this machine");
}

#[tokio::test]
async fn the_callback_decides_about_whoever_shows_nothing_of_ours() {
    let (url, count, heard) = server(YES).await;
    let house = house(&asking(url));
    let grant = house.publish("live/me", Credential::Key("of-theirs"), "192.0.2.1").await.expect("let in");
    assert!(grant.holder.starts_with("callback ") && !grant.holder.contains("theirs"), "{}", grant.holder);
    let asked = heard.lock().clone();
    for part in [
        "POST /ask HTTP/1.1",
        r#""action":"publish""#,
        r#""app":"live""#,
        r#""name":"me""#,
        r#""ip":"192.0.2.1""#,
        r#""protocol":"rtmp""#,
        r#""query":"key=of-theirs""#,
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert!(house.publish("live/me", Credential::Key("of-theirs"), "192.0.2.1").await.is_ok());
    assert_eq!(count.load(Ordering::Relaxed), 1, "the answer holds for a while");
    assert!(house.publish("live/me", Credential::None, "127.0.0.1").await.is_ok());
    assert_eq!(count.load(Ordering::Relaxed), 2, "being on this machine is no credential");
    let key = house.key("live/me", Conditions::default());
    assert!(house.publish("live/me", Credential::Key(&key), "192.0.2.1").await.is_ok());
    assert_eq!(count.load(Ordering::Relaxed), 2, "our own key is enough");
}

#[tokio::test]
async fn an_answer_of_the_callback_holds_for_that_question_and_a_while() {
    let (url, count, _) = server(YES).await;
    let mut config = asking(url);
    config.callback.cache = Duration::from_secs(1);
    let house = house(&config);
    let asked = async |stream: &str, key: &str, peer: &str| {
        house.publish(stream, Credential::Key(key), peer).await.expect("let in");
        count.load(Ordering::Relaxed)
    };
    assert_eq!(asked("live/me", "a", "192.0.2.1").await, 1);
    assert_eq!(asked("live/me", "b", "192.0.2.1").await, 2, "another query");
    assert_eq!(asked("live/me", "a", "192.0.2.2").await, 3, "another peer");
    assert_eq!(asked("live/you", "a", "192.0.2.1").await, 4, "another stream");
    assert_eq!(asked("live/me", "a", "192.0.2.1").await, 4, "the same");
    tokio::time::sleep(config.callback.cache).await;
    assert_eq!(asked("live/me", "a", "192.0.2.1").await, 5, "a while later");
}

#[tokio::test]
async fn the_callbacks_no_is_told_in_its_words() {
    let (url, ..) = server(NO).await;
    let house = house(&asking(url));
    let no = house.publish("live/me", Credential::None, "127.0.0.1").await.expect_err("refused");
    assert_eq!((no.kind, no.words.as_str()), (RefusalKind::Unauthorized, "no ticket"));
}

#[tokio::test]
async fn the_callbacks_terms_are_taken() {
    let body = r#"{"holder": "anna", "limits": {"max_bitrate": 1, "max_width": 2}}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
    let answer: &'static str = Box::leak(format!("{head} {}\r\n\r\n{body}", body.len()).into_boxed_str());
    let (url, ..) = server(answer).await;
    let grant = house(&asking(url)).publish("live/me", Credential::None, "127.0.0.1").await.expect("let in");
    let limits = Limits { max_bitrate: Some(1), max_width: Some(2), ..Limits::default() };
    assert_eq!((grant.holder.as_str(), grant.limits), ("callback holder anna", limits));
}

#[tokio::test]
async fn no_answer_means_what_the_configuration_says() {
    let (silent, ..) = server("").await;
    let (redirecting, ..) =
        server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n").await;
    let (broken, ..) = server("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
    let (vague, ..) =
        server("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"limits\": 12}").await;
    for url in [silent, redirecting, broken, vague, "http://127.0.0.1:1/".into()] {
        let mut config = asking(url);
        let closed = house(&config);
        let no = closed.publish("live/me", Credential::None, "127.0.0.1").await.expect_err("nobody said yes");
        assert_eq!(no.kind, RefusalKind::Unavailable, "{config:?}");
        config.callback.on_failure = OnFailure::Allow;
        closed.access.configure(&config).expect("good");
        assert!(closed.publish("live/me", Credential::None, "127.0.0.1").await.is_ok(), "{config:?}");
    }
}

#[tokio::test]
async fn a_dead_callback_is_left_alone_and_nobody_piles_up_behind_it() {
    let (url, count, _) = server("").await;
    let house = house(&asking(url));
    for name in 0..5 {
        let no = house.publish(&format!("live/{name}"), Credential::None, "127.0.0.1").await;
        assert!(no.is_err());
    }
    for name in 5..100 {
        assert!(house.publish(&format!("live/{name}"), Credential::None, "127.0.0.1").await.is_err());
    }
    assert_eq!(count.load(Ordering::Relaxed), 5);
}

#[test]
fn applications_are_open_or_watched_by_token() {
    let apps = [("members".to_owned(), config::App { watch: Watch::Token })].into();
    let house = house(&Config { apps, ..Config::default() });
    let here = "192.0.2.1".parse().expect("an address");
    let watch =
        |stream: &str, token: Option<&str>| house.access.may_watch(&stream.parse().expect("a name"), token, here, now);
    assert_eq!(watch("live/me", None), Ok(()));
    assert_eq!(watch("members/me", None), Err(WatchRefusal::TokenNeeded));
    let token = house.token(Action::Watch, "members/*", 60);
    assert_eq!(watch("members/me", Some(&token)), Ok(()));
    assert_eq!(watch("live/me", Some(&token)), Err(TokenError::Other.into()), "a token is judged where none is needed");
    let publish = house.token(Action::Publish, "members/me", 60);
    assert_eq!(watch("members/me", Some(&publish)), Err(TokenError::Other.into()));
    assert_eq!(house.access.is_watch_token(&token, now()), Ok(()));
    assert_eq!(house.access.is_watch_token(&publish, now()), Err(TokenError::Other.into()));
    house.access.configure(&Config { watch: Watch::Token, ..Config::default() }).expect("good");
    assert_eq!(watch("live/me", None), Err(WatchRefusal::TokenNeeded));
    std::fs::write(house.folder.path().join("token-secrets.json"), "{").expect("written");
    assert_eq!(
        watch("members/me", Some("x.y.z")),
        Err(TokenError::Invalid.into()),
        "what was read is good for a second"
    );
}
