//! The listeners, over real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use http::{Response, Version};
use http_body_util::BodyExt;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::edge::{Api, Config, Metrics, tls};
use crate::packager::testing::{self, Fixture};
use crate::packager::{Init, Rendition};

struct Running {
    fixture: Fixture,
    server: Server,
    http: SocketAddr,
    https: SocketAddr,
    edge: Arc<Edge>,
    data: tempfile::TempDir,
}

impl Running {
    /// A connection of HTTP/1.1 over TLS.
    async fn secure(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let path = self.data.path().join("tls/certificate.pem");
        roots.add(CertificateDer::from_pem_file(path).expect("a certificate")).expect("a usable one");
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("supported")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(self.https).await.expect("connected");
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::new(client)).connect(name, socket).await.expect("a handshake")
    }
}

fn config() -> Config {
    Config {
        header_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(500),
        shutdown_grace: Duration::from_secs(2),
        ..Config::default()
    }
}

fn start(config: Config) -> Running {
    let fixture = testing::fixture();
    let data = tempfile::tempdir().expect("a folder");
    let metrics = Metrics::new(&prometheus::Registry::new()).expect("fresh names");
    let certificate = tls::Certificate::load(&config, data.path()).expect("a certificate");
    let acceptor = certificate.acceptor().expect("a usable one");
    let edge = Edge::new(config, Arc::clone(&fixture.registry), metrics, 1935);
    let server = Server::new(Arc::clone(&edge));
    let listener = || bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let (plain, secure) = (listener(), listener());
    let (http, https) = (plain.local_addr().expect("bound"), secure.local_addr().expect("bound"));
    server.listen(plain, None);
    server.listen(secure, Some(acceptor));
    Running { fixture, server, http, https, edge, data }
}

fn client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy()
}

#[tokio::test]
async fn vanished_peers_are_found() {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    find_dead_peers(&listener).expect("the kernel knows these options");
    let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (accepted, _) = listener.accept().await.expect("accepted");
    let settings = (
        sockopt::socket_keepalive(&accepted),
        sockopt::tcp_keepidle(&accepted),
        sockopt::tcp_keepintvl(&accepted),
        sockopt::tcp_keepcnt(&accepted),
    );
    assert_eq!(settings, (Ok(true), Ok(SILENCE), Ok(PROBE_INTERVAL), Ok(PROBES)));
}

/// Three hundred viewers that read nothing had a gigabyte of the kernel's.
#[tokio::test]
async fn the_kernel_takes_little_for_a_viewer_that_reads_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    client.set_recv_buffer_size(2_048).expect("a small buffer");
    client.connect(&listener.local_addr().expect("bound").into()).expect("connected");
    let (mut accepted, _) = listener.accept().await.expect("accepted");
    let mut taken = 0;
    while let Ok(Ok(more)) = tokio::time::timeout(Duration::from_millis(200), accepted.write(&[0; 16_384])).await {
        taken += more;
    }
    assert!((16_384..2 * UNSENT as usize).contains(&taken), "{taken} bytes");
}

#[tokio::test]
async fn one_path_is_served_over_every_protocol() {
    let running = start(Config::default());
    let (http, https) = (running.http, running.https);
    for (name, client, base, version) in [
        ("HTTP/1.1", client().http1_only(), format!("http://{http}"), Version::HTTP_11),
        ("h2c", client().http2_prior_knowledge(), format!("http://{http}"), Version::HTTP_2),
        ("HTTP/1.1 over TLS", client().http1_only(), format!("https://{https}"), Version::HTTP_11),
        ("h2 over TLS", client(), format!("https://{https}"), Version::HTTP_2),
    ] {
        let client = client.build().expect("a client");
        let part = client.get(format!("{base}/live/me/10/v0/p20.m4s")).send().await.expect("an answer");
        assert_eq!((part.status().as_u16(), part.version()), (200, version), "{name}");
        assert_eq!(part.headers()["content-length"], "19", "{name}");
        assert!(part.headers().contains_key("date"), "{name}");
        assert_eq!(part.bytes().await.expect("a body"), "head-20.payload-20;", "{name}");
        let missing = client.get(format!("{base}/live/me/10/v0/p1.m4s")).send().await.expect("an answer");
        assert_eq!(missing.status().as_u16(), 404, "{name}");
        assert_eq!(missing.headers()["access-control-allow-origin"], "*", "{name}");
        let head = client.head(format!("{base}/live/me/10/v0/s5.m4s")).send().await.expect("an answer");
        assert_eq!(head.headers()["content-length"], "57", "{name}");
    }
    running.server.stop().await;
}

#[tokio::test]
async fn an_open_segment_arrives_part_by_part() {
    let running = start(Config::default());
    for client in [client().http1_only(), client().http2_prior_knowledge()] {
        running.fixture.window.send_replace(Arc::new(testing::window_of(&running.fixture.rendition, 4, 3, 3, 2)));
        let client = client.build().expect("a client");
        let url = format!("http://{}/live/me/10/v0/s7.m4s", running.http);
        let mut response = client.get(url).send().await.expect("an answer");
        assert!(response.content_length().is_none());
        let mut got = String::new();
        while got.len() < 38 {
            got.push_str(std::str::from_utf8(&response.chunk().await.expect("alive").expect("more")).expect("text"));
        }
        assert_eq!(got, "head-21.payload-21;head-22.payload-22;");
        running.fixture.window.send_replace(Arc::new(testing::window_of(&running.fixture.rendition, 4, 4, 3, 0)));
        while let Some(chunk) = response.chunk().await.expect("alive") {
            got.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
        assert_eq!(got, "head-21.payload-21;head-22.payload-22;head-23.payload-23;");
    }
    running.server.stop().await;
}

#[tokio::test]
async fn stopping_answers_those_who_wait_and_lets_others_finish() {
    let running = start(Config::default());
    let client = client().http2_prior_knowledge().build().expect("a client");
    let url = format!("http://{}/live/me/10/v0/index.m3u8?_HLS_msn=7", running.http);
    let held = tokio::spawn(client.get(url).send());
    while running.edge.metrics.waiting.get() == 0 {
        tokio::task::yield_now().await;
    }
    running.server.stop().await;
    assert_eq!(held.await.expect("no panic").expect("an answer").status().as_u16(), 503);
    assert_eq!(running.edge.metrics.connections.get(), 0);
    assert!(TcpStream::connect(running.http).await.is_err(), "the port is free again");
}

/// Reads until the server closes, at most ten seconds.
async fn closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut got)).await;
    assert!(read.is_ok(), "the connection was not closed");
    got
}

#[tokio::test]
async fn heads_that_do_not_come_along_are_given_up() {
    let running = start(config());
    for beginning in ["", "P", "PRI * HTTP/2.0", "GET / HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut socket = TcpStream::connect(running.http).await.expect("connected");
        socket.write_all(beginning.as_bytes()).await.expect("written");
        closed(&mut socket).await;
    }
    let mut socket = TcpStream::connect(running.http).await.expect("connected");
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    socket.readable().await.expect("answered");
    socket.write_all(b"GET /heal").await.expect("written");
    assert!(closed(&mut socket).await.starts_with(b"HTTP/1.1 200 "));
    let mut socket = TcpStream::connect(running.https).await.expect("connected");
    closed(&mut socket).await;
    assert!(running.edge.metrics.limits.header.get() >= 6);
    running.server.stop().await;
}

#[tokio::test]
async fn a_request_may_wait_longer_than_a_slow_reader() {
    let running = start(config());
    let client = client().http1_only().build().expect("a client");
    let url = format!("http://{}/live/me/10/v0/p23.m4s", running.http);
    let held = tokio::spawn(client.get(url).send());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    running.fixture.window.send_replace(Arc::new(testing::window_of(&running.fixture.rendition, 4, 4, 3, 0)));
    assert_eq!(held.await.expect("no panic").expect("an answer").status().as_u16(), 200);
    running.server.stop().await;
}

/// A window whose init is far larger than any socket buffer.
fn large(rendition: &Rendition) -> Arc<Rendition> {
    let init = Init { number: 0, bytes: Bytes::from(vec![7; 32 << 20]), track: rendition.init.track.clone() };
    Arc::new(Rendition {
        id: rendition.id,
        epoch: rendition.epoch,
        init: Arc::new(init),
        config: Arc::clone(&rendition.config),
    })
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_a_quick_one_is_not() {
    let running = start(config());
    let rendition = large(&running.fixture.rendition);
    running.fixture.window.send_replace(Arc::new(testing::window_of(&rendition, 4, 3, 3, 2)));
    let mut slow = TcpStream::connect(running.http).await.expect("connected");
    slow.write_all(b"GET /live/me/10/v0/init-0.mp4 HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let url = format!("http://{}/live/me/10/v0/init-0.mp4", running.http);
    let quick = client().http2_prior_knowledge().build().expect("a client");
    let got = quick.get(url).send().await.expect("an answer").bytes().await.expect("all of it");
    assert_eq!(got.len(), 32 << 20);
    for _ in 0..200 {
        if running.edge.metrics.limits.write.get() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.edge.metrics.limits.write.get(), 1);
    running.server.stop().await;
}

/// A connection that has sent this, and sends no more.
async fn last_words(running: &Running, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(running.http).await.expect("connected");
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.expect("written");
    socket.shutdown().await.expect("shut down");
    socket
}

#[tokio::test]
async fn who_has_no_more_to_say_is_answered_and_who_waits_is_let_go() {
    let running = start(Config::default());
    running.edge.set_api(Api::new(tower::service_fn(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Response::new(http_body_util::Full::from("listed").map_err(|never| match never {}).boxed_unsync()))
    })));
    let start = std::time::Instant::now();
    for (path, end) in [("/live/me/10/v0/p20.m4s", "payload-20;"), ("/api/v1/streams", "listed")] {
        for _ in 0..20 {
            let mut socket = last_words(&running, path).await;
            let got = String::from_utf8(closed(&mut socket).await).expect("text");
            assert!(got.starts_with("HTTP/1.1 200 OK") && got.ends_with(end), "{path}: {got:?}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(10), "they are closed only when the watchdog looks");
    let mut waits = last_words(&running, "/live/me/10/v0/p23.m4s").await;
    assert_eq!(closed(&mut waits).await, b"");
    assert_eq!(running.edge.metrics.waiting.get(), 0);

    let rendition = large(&running.fixture.rendition);
    running.fixture.window.send_replace(Arc::new(testing::window_of(&rendition, 4, 3, 3, 2)));
    let mut large = last_words(&running, "/live/me/10/v0/init-0.mp4").await;
    assert!(closed(&mut large).await.len() > 32 << 20, "the kernel holds less");
    running.server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_begins_none() {
    let running = start(config());
    let wanted = b"GET /live/me/10/v0/p20.m4s HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut got = vec![0; 4096];
    let mut plain = TcpStream::connect(running.http).await.expect("connected");
    let mut secure = running.secure().await;
    for lines in ["\r\n", "\n\r\n\r\n", ""] {
        plain.write_all(wanted).await.expect("it is open");
        assert!(plain.read(&mut got).await.expect("it is open") > 0, "{lines:?}");
        secure.write_all(wanted).await.expect("it is open");
        assert!(secure.read(&mut got).await.expect("it is open") > 0, "{lines:?}");
        plain.write_all(lines.as_bytes()).await.expect("it is open");
        secure.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        secure.flush().await.expect("it is open");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(running.edge.metrics.limits.header.get(), 0);
    plain.write_all(b"\r\nG").await.expect("it is open");
    assert_eq!(closed(&mut plain).await, b"");
    assert_eq!(
        running.edge.metrics.limits.header.get(),
        1,
        "the beginning of a request is one behind an empty line, too"
    );
    running.server.stop().await;
}

#[tokio::test]
async fn another_version_than_the_one_that_is_wanted_is_not_sent() {
    let running = start(Config::default());
    let client = client().http1_only().build().expect("a client");
    for file in ["index.m3u8", "init-0.mp4", "p20.m4s", "s5.m4s", "s7.m4s"] {
        let url = format!("http://{}/live/me/10/v0/{file}", running.http);
        let tag = client.get(&url).send().await.expect("an answer").headers()["etag"].clone();
        let tag = tag.to_str().expect("text");
        for (wanted, status) in [(tag, 200), ("*", 200), ("\"x\"", 412), (&format!("W/{tag}"), 412)] {
            let request = client.get(&url).header("if-match", wanted);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), status, "{file}, {wanted}");
            let request = client.get(&url).header("if-match", "\"x\"").header("if-none-match", wanted);
            assert_eq!(request.send().await.expect("an answer").status().as_u16(), 412, "{file}, {wanted}");
        }
    }
    running.server.stop().await;
}

/// Much slower than it would take for the kernel to call a full send buffer writable in time.
#[tokio::test]
async fn a_steady_reader_is_no_slow_one_however_much_the_kernel_holds() {
    const PER_TENTH: u64 = 32 * 1024;
    let running = start(Config { write_timeout: Duration::from_secs(1), ..config() });
    let rendition = large(&running.fixture.rendition);
    running.fixture.window.send_replace(Arc::new(testing::window_of(&rendition, 4, 3, 3, 2)));
    let wanted = b"GET /live/me/10/v0/init-0.mp4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut plain = TcpStream::connect(running.http).await.expect("connected");
    let mut secure = running.secure().await;
    plain.write_all(wanted).await.expect("written");
    secure.write_all(wanted).await.expect("written");
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut taken = vec![0; PER_TENTH as usize];
    for _ in 0..40 {
        pace.tick().await;
        plain.read_exact(&mut taken).await.expect("it is open");
        secure.read_exact(&mut taken).await.expect("it is open");
    }
    assert_eq!(running.edge.metrics.limits.write.get(), 0);
    for _ in 0..200 {
        if running.edge.metrics.limits.write.get() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.edge.metrics.limits.write.get(), 2, "who stops taking is closed");
    running.server.stop().await;
}

/// RELIABILITY row 55: HTTP/2 streams that are opened with a window of zero and never granted more.
#[tokio::test]
async fn a_window_of_zero_is_no_way_to_hold_a_connection() {
    let running = start(config());
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    hello.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    let path = b"/live/me/10/v0/s5.m4s";
    let mut head = vec![0x82, 0x86, 0x04, path.len() as u8];
    head.extend(path);
    head.extend(b"\x01\x01a");
    // HEADERS, END_STREAM and END_HEADERS, on stream 1.
    hello.extend([0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]);
    hello.extend(head);
    let mut socket = TcpStream::connect(running.http).await.expect("connected");
    socket.write_all(&hello).await.expect("written");
    let got = closed(&mut socket).await;
    assert!(!got.windows(4).any(|bytes| bytes == b"head"), "nothing may be sent into a window of zero");
    assert_eq!(running.edge.metrics.limits.write.get(), 1);
    running.server.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_do_not_lie_about_its_length() {
    let running = start(Config::default());
    for (name, client) in [("HTTP/1.1", client().http1_only()), ("h2c", client().http2_prior_knowledge())] {
        let client = client.build().expect("a client");
        let base = format!("http://{}/live/me/10/v0", running.http);
        let open = client.head(format!("{base}/s7.m4s")).send().await.expect("an answer");
        assert_eq!(open.headers().get("content-length"), None, "{name}: the length of an open segment is not known");
        let part = client.get(format!("{base}/p20.m4s")).header("if-none-match", "*").send().await.expect("an answer");
        assert_eq!(part.status().as_u16(), 304, "{name}");
        assert_eq!(part.headers().get("content-length"), None, "{name}: 304");
        let preflight = client.request(reqwest::Method::OPTIONS, format!("{base}/p20.m4s")).send().await;
        assert_eq!(preflight.expect("an answer").status().as_u16(), 204, "{name}");
    }
    running.server.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let running = start(Config { max_connections: 1, ..Config::default() });
    let _first = TcpStream::connect(running.http).await.expect("connected");
    while running.edge.metrics.connections.get() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(running.http).await.expect("connected");
    assert!(closed(&mut second).await.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(running.edge.metrics.limits.connections.get(), 1);
    running.server.stop().await;
}

#[tokio::test]
async fn one_address_gets_its_share_of_connections_and_proxies_are_no_one_address() {
    let config = Config { max_connections_per_ip: 1, proxies: Vec::new(), ..Config::default() };
    let running = start(config.clone());
    let first = TcpStream::connect(running.http).await.expect("connected");
    while running.edge.metrics.connections.get() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(running.http).await.expect("connected");
    assert!(closed(&mut second).await.starts_with(b"HTTP/1.1 429 "));
    assert_eq!(running.edge.metrics.limits.connections_per_ip.get(), 1);
    drop(first);
    running.server.stop().await;

    let running = start(Config { proxies: vec!["127.0.0.0/8".parse().expect("a range")], ..config });
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut socket = TcpStream::connect(running.http).await.expect("connected");
        socket.write_all(b"GET /time HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        let mut status = [0; 12];
        socket.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200");
        held.push(socket);
    }
    running.server.stop().await;
}

#[tokio::test]
async fn oversized_and_ambiguous_heads_are_refused() {
    let running = start(Config::default());
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    for (name, head) in [
        ("a long URL", long_path.as_str()),
        ("many headers", many.as_str()),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"),
        ("a folded header", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    ] {
        let mut socket = TcpStream::connect(running.http).await.expect("connected");
        // The server may have answered and closed before it was sent everything.
        let _ = socket.write_all(head.as_bytes()).await;
        let mut first = [0; 12];
        if socket.read_exact(&mut first).await.is_ok() {
            assert!(first.starts_with(b"HTTP/1.1 4"), "{name}: {}", String::from_utf8_lossy(&first));
        }
    }
    running.server.stop().await;
}
