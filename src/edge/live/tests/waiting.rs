//! Requests that wait: for what, for how long, how many of them, and what they cost.

use std::time::Duration;

use super::*;

/// A request that waits meanwhile.
fn held(edge: &Arc<Edge>, path: &str) -> tokio::task::JoinHandle<Response<Body>> {
    let (edge, path) = (Arc::clone(edge), path.to_owned());
    tokio::spawn(async move { get(&edge, &path).await })
}

#[tokio::test(start_paused = true)]
async fn a_blocked_playlist_is_released_by_the_part_it_waits_for() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let held = held(&edge, &format!("{BASE}/index.m3u8?_HLS_msn=7&_HLS_part=2"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!held.is_finished());
    assert_eq!(edge.metrics.waiting.get(), 1);
    fixture.window.send_replace(Arc::new(testing::window_of(&fixture.rendition, 4, 3, 3, 3)));
    let response = held.await.expect("no panic");
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(response.headers(), "etag").contains("703"));
    assert_eq!(edge.metrics.waiting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_released_by_the_end() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let waiting = [("index.m3u8?_HLS_msn=8", 200), ("p23.m4s", 404), ("s8.m4s", 404)]
        .map(|(file, status)| (file, status, held(&edge, &format!("{BASE}/{file}"))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut last = testing::window_of(&fixture.rendition, 4, 3, 3, 2);
    last.segments.extend(last.open.take());
    (last.open_msn, last.ended) = (8, true);
    let ended = tokio::time::Instant::now();
    fixture.window.send_replace(Arc::new(last));
    for (file, status, held) in waiting {
        assert_eq!(held.await.expect("no panic").status(), status, "{file}");
        assert_eq!(ended.elapsed(), Duration::ZERO, "{file} is known to be none any more");
    }
}

#[tokio::test(start_paused = true)]
async fn three_target_durations_are_the_longest_wait() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let start = tokio::time::Instant::now();
    let response = get(&edge, &format!("{BASE}/index.m3u8?_HLS_msn=7")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(response.headers(), "retry-after"), "1");
    assert_eq!(header(response.headers(), "cache-control"), "no-store");
    assert_eq!(start.elapsed().as_secs(), 12);
    for path in ["p23.m4s", "s8.m4s"] {
        let response = get(&edge, &format!("{BASE}/{path}")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(response.headers(), "cache-control"), "no-store", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hinted_part_is_held_until_all_of_it_is_there() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let held = held(&edge, &format!("{BASE}/p23.m4s"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!held.is_finished());
    fixture.window.send_replace(Arc::new(testing::window_of(&fixture.rendition, 4, 4, 3, 0)));
    assert_eq!(body(held.await.expect("no panic")).await, "head-23.payload-23;");
}

#[tokio::test(start_paused = true)]
async fn a_segment_can_be_read_while_it_is_made_and_before_it_begins() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let open = get(&edge, &format!("{BASE}/s7.m4s")).await;
    assert_eq!(open.body().len(), None);
    assert_eq!(open.headers().get("accept-ranges"), None, "its length is not known");
    assert_eq!(header(get(&edge, &format!("{BASE}/s5.m4s")).await.headers(), "accept-ranges"), "bytes");
    let next = tokio::spawn({
        let edge = Arc::clone(&edge);
        async move { body(get(&edge, &format!("{BASE}/s8.m4s")).await).await }
    });
    let open = tokio::spawn(body(open));
    tokio::time::sleep(Duration::from_millis(200)).await;
    fixture.window.send_replace(Arc::new(testing::window_of(&fixture.rendition, 4, 4, 3, 1)));
    assert_eq!(open.await.expect("no panic").len(), "head-21.payload-21;".len() * 3);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!next.is_finished());
    fixture.window.send_replace(Arc::new(testing::window_of(&fixture.rendition, 4, 5, 3, 0)));
    let finished = body(get(&edge, &format!("{BASE}/s8.m4s")).await).await;
    assert_eq!(next.await.expect("no panic"), finished);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_requests_are_turned_away() {
    let fixture = testing::fixture();
    let edge =
        edge(&fixture, Config { max_waiting: 3, max_waiting_per_ip: 2, proxies: Vec::new(), ..Config::default() });
    let hold = || {
        let edge = Arc::clone(&edge);
        tokio::spawn(async move { get(&edge, &format!("{BASE}/index.m3u8?_HLS_msn=7")).await.status() })
    };
    let held = [hold(), hold()];
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(hold().await.expect("no panic"), StatusCode::TOO_MANY_REQUESTS);
    let far = get(&edge, &format!("{BASE}/index.m3u8?_HLS_msn=99")).await;
    assert_eq!(far.status(), StatusCode::BAD_REQUEST, "a bad request takes no place");
    edge.stop.cancel();
    for held in held {
        assert_eq!(held.await.expect("no panic"), StatusCode::SERVICE_UNAVAILABLE);
    }
}

/// RELIABILITY row 120: who waits when the server stops is told to come back, whether the stop or what it does to the stream is heard of first. Publishers
/// are interrupted a while before viewers are told.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_segment_when_the_server_stops_may_come_again() {
    for is_put_down_first in [false, true] {
        let fixture = testing::fixture();
        let edge = edge(&fixture, Config::default());
        let held = held(&edge, &format!("{BASE}/s8.m4s"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!held.is_finished());
        fixture.registry.begin_stop();
        if is_put_down_first {
            let mut last = testing::window_of(&fixture.rendition, 4, 4, 3, 0);
            last.waiting = true;
            fixture.window.send_replace(Arc::new(last));
        } else {
            edge.stop.cancel();
        }
        let response = held.await.expect("no panic");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{is_put_down_first}");
        assert_eq!(header(response.headers(), "retry-after"), "1");
    }
}

/// A waiting viewer costs its future and its place in two tables; RELIABILITY row 72 allows 12 KB of everything over HTTP/1.1.
#[tokio::test]
async fn a_waiting_request_is_small() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let request = Request::get(format!("{BASE}/index.m3u8?_HLS_msn=7"))
        .header("host", "rillcast.test")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let bytes = edge.handle(([127, 0, 0, 1], 40_000).into(), request).size();
    assert!(bytes < 3072, "{bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_blocked_viewers_get_one_rendering() {
    const VIEWERS: i64 = 10_000;
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config { max_waiting_per_ip: VIEWERS as usize, ..Config::default() });
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..VIEWERS {
        let edge = Arc::clone(&edge);
        held.spawn(async move { get(&edge, &format!("{BASE}/index.m3u8?_HLS_msn=7&_HLS_part=2")).await });
    }
    while edge.metrics.waiting.get() < VIEWERS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let published = std::time::Instant::now();
    fixture.window.send_replace(Arc::new(testing::window_of(&fixture.rendition, 4, 3, 3, 3)));
    let mut texts = std::collections::HashSet::new();
    while let Some(response) = held.join_next().await {
        let response = response.expect("no panic");
        assert_eq!(response.status(), StatusCode::OK);
        let Body::Slices(slices) = response.into_body() else { panic!("a playlist has a known length") };
        texts.extend(slices.front().map(|text| text.as_ptr()));
    }
    let answered = published.elapsed();
    println!("{VIEWERS} answers in {answered:?}");
    // Some 40 ms where nothing else runs.
    assert!(answered < Duration::from_secs(1), "the last was answered after {answered:?}");
    assert!(texts.len() <= 1, "rendered {} times", texts.len());
    assert_eq!(edge.metrics.waiting.get(), 0);
}
