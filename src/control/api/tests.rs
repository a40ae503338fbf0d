//! Who may change something, and what then changes.

use std::net::SocketAddr;

use axum::http::Method;

use super::*;
use crate::media::wall_clock::now;

struct Client {
    context: Context,
    _folder: tempfile::TempDir,
}

fn client() -> Client {
    let folder = tempfile::tempdir().expect("a folder");
    Client { context: Context::for_test(folder.path()), _folder: folder }
}

impl Client {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        peer: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, serde_json::Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = http_body_util::Full::from(body.to_owned()).map_err(|never| match never {}).boxed_unsync();
        let mut request = request.body(body).expect("a request");
        request.extensions_mut().insert(SocketAddr::new(peer.parse().expect("an address"), 40_000));
        let Ok(response) = service(self.context.clone()).oneshot(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: &str) -> (StatusCode, serde_json::Value) {
        self.ask(Method::POST, path, "127.0.0.1", &[("content-type", "application/json")], body).await
    }
}

const KICK: &str = "/api/v1/streams/live/me/kick";

/// Every route that the document knows and that is no plain reading.
fn guarded() -> Vec<(Method, String)> {
    let document = serde_json::to_value(Document::openapi()).expect("JSON");
    assert!(document["components"]["securitySchemes"]["api_key"].is_object());
    vec![
        (Method::POST, KICK.into()),
        (Method::POST, "/api/v1/streams/live/me/end".into()),
        (Method::POST, "/api/v1/reload".into()),
        (Method::GET, "/api/v1/keys".into()),
        (Method::POST, "/api/v1/keys".into()),
        (Method::DELETE, "/api/v1/keys/1".into()),
        (Method::POST, "/api/v1/tokens".into()),
    ]
}

/// RELIABILITY rows 106 and 108: the routes come from the router's own document, so that one that is added is not forgotten.
#[tokio::test]
async fn every_route_that_changes_something_is_guarded() {
    let client = client();
    let (_, document) = client.ask(Method::GET, "/api/v1/openapi.json", "127.0.0.1", &[], "").await;
    let mut described = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let open = method == "get" && path.starts_with("/api/v1/streams");
            let nothing = serde_json::json!({});
            let needed = operation["security"].as_array().is_some_and(|ways| !ways.contains(&nothing));
            assert_eq!(needed, !open, "{method} {path}");
            if !open {
                let path = path.replace("{app}", "live").replace("{name}", "me").replace("{id}", "1");
                described.push((method.to_uppercase().parse::<Method>().expect("a method"), path));
            }
        }
    }
    described.sort_by_key(|(method, path)| (path.clone(), method.to_string()));
    let mut known = guarded();
    known.sort_by_key(|(method, path)| (path.clone(), method.to_string()));
    assert_eq!(described, known);
    for (method, path) in described {
        let (status, _) = client.ask(method.clone(), &path, "192.0.2.1", &[], "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
}

#[tokio::test]
async fn without_api_keys_this_machine_alone_operates_the_server() {
    let client = client();
    for (peer, headers, status) in [
        ("127.0.0.1", &[][..], 422),
        ("::1", &[], 422),
        ("::ffff:127.0.0.1", &[], 422),
        ("127.0.0.1", &[("origin", "http://localhost:8080")], 422),
        ("127.0.0.1", &[("origin", "http://[::1]:8080")], 422),
        ("192.0.2.1", &[], 403),
        ("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")], 403),
        ("127.0.0.1", &[("forwarded", "for=127.0.0.1")], 403),
        ("127.0.0.1", &[("via", "1.1 cache")], 403),
        ("127.0.0.1", &[("x-real-ip", "192.0.2.1")], 403),
        ("127.0.0.1", &[("x-forwarded-host", "live.example")], 403),
        ("127.0.0.1", &[("x-forwarded-proto", "https")], 403),
        ("127.0.0.1", &[("host", "localhost:8080")], 422),
        ("127.0.0.1", &[("host", "127.0.0.1")], 422),
        ("127.0.0.1", &[("host", "[::1]:8080")], 422),
        ("127.0.0.1", &[("host", "rebound.example:8080")], 403),
        ("127.0.0.1", &[("host", "")], 403),
        ("127.0.0.1", &[("origin", "https://evil.example")], 403),
        ("127.0.0.1", &[("origin", "http://localhost.evil.example")], 403),
        ("127.0.0.1", &[("origin", "null")], 403),
    ] {
        let (found, body) = client.ask(Method::POST, "/api/v1/reload", peer, headers, "").await;
        assert_eq!(found.as_u16(), status, "{peer} {headers:?} {body}");
    }
}

#[tokio::test]
async fn an_api_key_is_needed_once_there_is_one_and_good_from_anywhere() {
    let client = client();
    let made = client.context.access.keys().add_api(None, now()).expect("made");
    let bearer = format!("Bearer {}", made.paste);
    let ask = async |peer: &str, value: &str| {
        let headers = [("authorization", value), ("x-forwarded-for", "198.51.100.1")];
        client.ask(Method::POST, "/api/v1/reload", peer, &headers[usize::from(value.is_empty())..], "").await.0.as_u16()
    };
    assert_eq!(ask("127.0.0.1", "").await, 401);
    assert_eq!(ask("192.0.2.1", &bearer).await, 422, "let through to the reload, which this context refuses");
    assert_eq!(ask("192.0.2.1", &bearer.replace("Bearer", "bearer")).await, 422);
    for wrong in ["Bearer ra_x", "Bearer", "Basic eDp5", &"x".repeat(10_000)] {
        assert_eq!(ask("192.0.2.2", wrong).await, 401, "{wrong}");
    }
    for _ in 0..10 {
        ask("192.0.2.3", "Bearer ra_guess").await;
    }
    assert_eq!(ask("192.0.2.3", "Bearer ra_guess").await, 401);
    assert_eq!(ask("192.0.2.3", "Bearer ra_guess").await, 429, "whoever guesses is not listened to for a while");
    assert_eq!(ask("192.0.2.3", &bearer).await, 422, "but a right key is good whoever else guesses there");
    assert_eq!(ask("192.0.2.1", &bearer).await, 422);
}

#[tokio::test]
async fn a_publisher_is_told_why_it_is_sent_away() {
    let client = client();
    assert_eq!(client.post("/api/v1/streams/live/nobody/kick", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.post("/api/v1/streams/live/nobody/end", "").await.0, StatusCode::NOT_FOUND);
    for wrong in [r#"{"words": ""}"#, r#"{"words": "a\nb"}"#, r#"{"word": "x"}"#, r#"{"words": 1}"#, "{", "[[[["] {
        let (status, problem) = client.post(KICK, wrong).await;
        assert_eq!((status, problem["status"].as_u64()), (StatusCode::BAD_REQUEST, Some(400)), "{wrong}");
    }
    let long = format!("{{\"words\": \"{}\"}}", "x".repeat(100_000));
    assert_eq!(client.post(KICK, &long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.post(KICK, &"[".repeat(50_000)).await.0, StatusCode::BAD_REQUEST);
    let (status, _) = client.ask(Method::POST, KICK, "127.0.0.1", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "what a page of another site may send unasked");
    assert_eq!(client.post(KICK, r#"{"words": "the show is over"}"#).await.0, StatusCode::NO_CONTENT);
    assert_eq!(client.post(KICK, "").await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let client = client();
    let body = r#"{"stream": "live/me", "takeover": "always", "allow": ["192.0.2.0/24"], "max_publishers": 1,
        "limits": {"max_bitrate": 6000000, "max_duration": "2h"}}"#;
    let (status, made) = client.post("/api/v1/keys", body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert!(made["stream_key"].as_str().is_some_and(|key| key.starts_with("me?key=rk_")));
    let (_, listed) = client.ask(Method::GET, "/api/v1/keys", "127.0.0.1", &[], "").await;
    let key = &listed["keys"][0];
    assert_eq!((&key["id"], &key["stream"], &key["takeover"]), (&made["id"], &"live/me".into(), &"always".into()));
    assert_eq!(key["limits"], serde_json::json!({"max_bitrate": 6_000_000, "max_duration": "2h"}));
    assert!(!listed.to_string().contains("rk_") && !listed.to_string().contains("sha256"));
    for wrong in [
        r#"{"stream": "live"}"#,
        r#"{"stream": "live/me", "limits": {"max_bitrate": 0}}"#,
        r#"{"stream": "live/me", "allow": ["x"]}"#,
        r#"{"stream": "live/me", "expires": "tomorrow"}"#,
        r#"{"stream": "live/me", "expires": "2020-01-01T00:00:00Z"}"#,
        r#"{"stream": "live/me", "stream": "live/you"}"#,
        r#"{"stream": "live/me", "max_publishers": 1e999}"#,
        "",
    ] {
        assert_eq!(client.post("/api/v1/keys", wrong).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(client.post("/api/v1/keys", r#"{"stream": "live/me", "limits": null}"#).await.0, StatusCode::CREATED);
    let path = format!("/api/v1/keys/{}", made["id"].as_str().expect("an id"));
    let revoke = async |path: &str| client.ask(Method::DELETE, path, "127.0.0.1", &[], "").await.0;
    assert_eq!(revoke(&format!("{path}?kik=true")).await, StatusCode::BAD_REQUEST);
    assert_eq!(revoke(&path).await, StatusCode::NO_CONTENT);
    assert_eq!(revoke(&path).await, StatusCode::NOT_FOUND);
}

/// What the document says of bodies and parameters is what is taken.
#[tokio::test]
async fn the_document_says_what_is_taken() {
    let client = client();
    let (_, document) = client.ask(Method::GET, "/api/v1/openapi.json", "127.0.0.1", &[], "").await;
    let parameters = &document["paths"]["/api/v1/keys/{id}"]["delete"]["parameters"];
    let kick = parameters.as_array().expect("parameters").iter().find(|one| one["name"] == "kick").expect("kick");
    assert_eq!((&kick["in"], &kick["required"]), (&"query".into(), &false.into()), "{kick}");
    let nothing = r#"{"stream": "live/me", "expires": null, "takeover": null, "allow": null, "max_publishers": null, "limits": null}"#;
    let (status, made) = client.post("/api/v1/keys", nothing).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    for (path, body) in [
        ("/api/v1/keys", r#"["live/me"]"#),
        ("/api/v1/keys", r#"{"stream": "live/me", "limits": [100]}"#),
        ("/api/v1/keys", "[]"),
        ("/api/v1/keys", "null"),
        ("/api/v1/keys", r#""live/me""#),
        ("/api/v1/tokens", r#"["watch", "live/me", 60]"#),
        ("/api/v1/tokens", r#"{"action": "watch", "stream": "live/me", "expires_in": 34560001}"#),
        (KICK, "[]"),
    ] {
        let (status, problem) = client.post(path, body).await;
        assert_eq!((status, problem["status"].as_u64()), (StatusCode::BAD_REQUEST, Some(400)), "{body}: {problem}");
    }
    let (status, problem) = client.ask(Method::GET, "/api/v1/streams/live/%ff", "127.0.0.1", &[], "").await;
    assert_eq!((status, problem["status"].as_u64()), (StatusCode::BAD_REQUEST, Some(400)), "{problem}");
}

#[tokio::test]
async fn tokens_are_signed_as_the_server_takes_them() {
    let client = client();
    let (status, signed) =
        client.post("/api/v1/tokens", r#"{"action": "watch", "stream": "live/me", "expires_in": 60}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{signed}");
    let token = signed["token"].as_str().expect("a token");
    assert_eq!(signed["url"], format!("/t/{token}/live/me"));
    let (stream, peer) = ("live/me".parse().expect("a name"), "192.0.2.1".parse().expect("an address"));
    assert_eq!(client.context.access.may_watch(&stream, Some(token), peer, now), Ok(()));
    let over = r#"{"action": "watch", "stream": "live/me", "expires_in": 0}"#;
    assert_eq!(client.post("/api/v1/tokens", over).await.0, StatusCode::BAD_REQUEST);
    let far = r#"{"action": "watch", "stream": "live/me", "expires_in": 4000000000}"#;
    assert_eq!(client.post("/api/v1/tokens", far).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn publishers_addresses_and_streams_by_token_are_shown_with_authority_alone() {
    use crate::control::access::{self, config::Watch};
    let client = client();
    let ask =
        async |path: &str, peer: &str, headers: &[(&str, &str)]| client.ask(Method::GET, path, peer, headers, "").await;
    let (list, one) = ("/api/v1/streams", "/api/v1/streams/live/me");
    let peer = serde_json::json!("127.0.0.1:50000");
    assert_eq!(ask(one, "127.0.0.1", &[]).await.1["publisher"]["peer"], peer, "this machine, and there is no API key");
    for headers in [&[("via", "1.1 cache")][..], &[("host", "rebound.example")], &[("origin", "https://evil.example")]]
    {
        assert!(ask(one, "127.0.0.1", headers).await.1["publisher"]["peer"].is_null(), "{headers:?}");
    }
    assert!(ask(list, "192.0.2.1", &[]).await.1["streams"][0]["publisher"]["peer"].is_null());

    client.context.access.configure(&access::Config { watch: Watch::Token, ..Default::default() }).expect("good");
    assert_eq!(ask(list, "192.0.2.1", &[]).await.1, serde_json::json!({"streams": []}));
    assert_eq!(ask(one, "192.0.2.1", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(one, "127.0.0.1", &[]).await.0, StatusCode::OK);

    let made = client.context.access.keys().add_api(None, now()).expect("made");
    assert_eq!(ask(one, "127.0.0.1", &[]).await.0, StatusCode::NOT_FOUND, "from now on the key counts");
    assert_eq!(ask(one, "127.0.0.1", &[("authorization", "Bearer ra_x")]).await.0, StatusCode::NOT_FOUND);
    let (status, shown) = ask(one, "192.0.2.1", &[("authorization", &format!("Bearer {}", made.paste))]).await;
    assert_eq!((status, &shown["publisher"]["peer"]), (StatusCode::OK, &peer));
}
