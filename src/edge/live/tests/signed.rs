//! URLs below `/t/TOKEN/`.

use super::*;

/// Lets in whoever shows `good`, to `live/me` alone.
struct Good;

impl crate::edge::MayWatch for Good {
    fn may_watch(
        &self,
        stream: &crate::media::StreamName,
        token: Option<&str>,
        _: std::net::IpAddr,
    ) -> Result<(), String> {
        let good = token == Some("good") && stream.to_string() == "live/me";
        if good { Ok(()) } else { Err(format!("not {stream} with {token:?}")) }
    }

    fn is_good(&self, token: &str) -> Result<(), String> {
        if token == "good" { Ok(()) } else { Err("no".into()) }
    }
}

#[tokio::test]
async fn signed_urls_are_the_plain_ones_behind_a_token() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    edge.set_access(Arc::new(Good));
    for path in [
        "/live/me",
        "/live/me/index.m3u8",
        "/live/me/10/v0/index.m3u8",
        "/live/me/10/v0/init-0.mp4",
        "/live/me/10/v0/p20.m4s",
    ] {
        let signed = get(&edge, &format!("/t/good{path}")).await;
        assert_eq!(signed.status(), 200, "{path}");
        assert!(!String::from_utf8_lossy(&body(signed).await).contains("/t/"), "{path} is the same for every viewer");
        for (token, shown) in [("", "None"), ("/t/bad", "bad")] {
            let refused = get(&edge, &format!("{token}{path}")).await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{token}{path}");
            assert_eq!(header(refused.headers(), "content-type"), "application/problem+json");
            assert_eq!(header(refused.headers(), "cache-control"), "no-store");
            assert_eq!(header(refused.headers(), "access-control-allow-origin"), "*");
            assert!(String::from_utf8_lossy(&body(refused).await).contains(shown));
        }
    }
    for (path, status) in [
        ("/t/good/time", 200),
        ("/t/bad/time", 403),
        ("/time", 200),
        ("/t/good/live/you/index.m3u8", 403),
        ("/t/good/", 404),
        ("/t/good/healthz", 404),
        ("/t/good/api/v1/streams", 404),
        ("/t/good/assets/player.js", 404),
        ("/t/good/t/good/live/me/index.m3u8", 404),
        ("/t/good", 404),
        ("/t/go%6fd/live/me/index.m3u8", 400),
        ("/t/good/live//me", 400),
        ("/t/good/live/../me", 400),
        ("/", 200),
        ("/assets/style.css", 200),
    ] {
        assert_eq!(get(&edge, path).await.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn without_anybody_to_ask_there_are_no_signed_urls() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    assert_eq!(get(&edge, "/t/good/live/me/index.m3u8").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(get(&edge, "/live/me/index.m3u8").await.status(), StatusCode::OK);
}
