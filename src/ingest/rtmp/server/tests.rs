//! The shell over real sockets, into a real registry. Publishers are written by hand or `rml_rtmp`'s.

use std::net::{Ipv4Addr, SocketAddr};

use rml_amf0::{Amf0Value, serialize};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::ingest::publish::{Answer, Credential, Grant, Lease, PublishRequest, Refusal, RefusalKind};
use crate::ingest::report::Rules;
use crate::media::{Limits, StreamName};
use crate::packager;
use crate::packager::sequence::Sequences;

/// Lets in who shows the key `good`; `small` and `short` are limited; panics on `panic`. Who publishes with `short` holds what is inside.
#[derive(Default)]
struct OneKey(Arc<()>);

impl Authorise for OneKey {
    fn authorise<'a>(&'a self, request: &'a PublishRequest) -> Answer<'a> {
        Box::pin(async move {
            match &request.credential {
                Credential::Key(key) if key == "good" => Ok(Grant::new("good")),
                Credential::Key(key) if key == "small" => {
                    let limits = Limits { max_bitrate: Some(8_000), ..Limits::default() };
                    Ok(Grant { limits, ..Grant::new("small") })
                }
                Credential::Key(key) if key == "short" => {
                    let limits = Limits { max_duration: Some(Duration::from_millis(50)), ..Limits::default() };
                    let lease = Some(Lease::new(self.0.clone()));
                    Ok(Grant { limits, lease, ..Grant::new("short") })
                }
                Credential::Key(key) if key == "panic" => panic!("as a mistake of ours would"),
                _ => Err(Refusal::new(RefusalKind::Unauthorized, "the stream key is not known")),
            }
        })
    }
}

struct Running {
    address: SocketAddr,
    registry: Arc<live::Registry>,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    leased: Arc<()>,
    _folder: tempfile::TempDir,
}

async fn start(max_per_ip: u32) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let limits = live::Limits { max_streams: 16, resume_window: Duration::ZERO };
    let registry =
        live::Registry::new(Arc::default(), Sequences::new(folder.path()), limits, live::Metrics::for_test());
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let leased = Arc::new(());
    let context = Context {
        config: config::Rtmp { max_per_ip, ..config::Rtmp::default() },
        registry: registry.clone(),
        authorise: Arc::new(OneKey(leased.clone())),
        metrics: metrics.clone(),
        reports: Board::new(Rules::from(&packager::Config::default()), Duration::from_secs(30)),
    };
    let task = tokio::spawn(serve(listener, context, shutdown.clone()));
    Running { address, registry, metrics, shutdown, task, leased, _folder: folder }
}

struct Client {
    stream: TcpStream,
    serializer: ChunkSerializer,
    heard: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[&[3][..], &[0; 3_072]].concat()).await.unwrap();
        let mut heard = vec![0; 3_073];
        stream.read_exact(&mut heard).await.unwrap();
        Self { stream, serializer: ChunkSerializer::new(), heard: Vec::new() }
    }

    async fn send(&mut self, kind: u8, ms: u32, body: Vec<u8>) {
        let message = MessagePayload {
            timestamp: RtmpTimestamp::new(ms),
            type_id: kind,
            message_stream_id: 1,
            data: body.into(),
        };
        let packet = self.serializer.serialize(&message, false, false).unwrap();
        self.stream.write_all(&packet.bytes).await.unwrap();
    }

    async fn command(&mut self, name: &str, object: Amf0Value, argument: &str) {
        let text = |text: &str| Amf0Value::Utf8String(text.into());
        self.send(20, 0, serialize(&vec![text(name), Amf0Value::Number(1.0), object, text(argument)]).unwrap()).await;
    }

    async fn publish(&mut self, key: &str) {
        let app = Amf0Value::Utf8String("live".into());
        self.command("connect", Amf0Value::Object([("app".to_owned(), app)].into()), "").await;
        self.command("createStream", Amf0Value::Null, "").await;
        self.command("publish", Amf0Value::Null, key).await;
    }

    /// Reads until `words` were heard; false when the connection ended before.
    async fn hears(&mut self, words: &str) -> bool {
        let mut buffer = [0; 4_096];
        while !self.heard.windows(words.len()).any(|heard| heard == words.as_bytes()) {
            match self.stream.read(&mut buffer).await {
                Ok(count) if count > 0 => self.heard.extend_from_slice(&buffer[..count]),
                _ => return false,
            }
        }
        true
    }

    async fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_publisher_with_a_good_key_is_listed_until_it_leaves() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=good").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    client.send(8, 0, vec![0xAF, 0, 0x11, 0x90]).await;
    for n in 0..200 {
        client.send(8, n * 64 / 3, vec![0xAF, 1, 0x21, 0, 0, 0]).await;
    }
    let name = StreamName::new("live", "me").unwrap();
    let stream = running.registry.stream(&name).unwrap();
    let mut catalog = stream.catalog();
    catalog.wait_for(|catalog| !catalog.renditions.is_empty()).await.unwrap();
    assert_eq!((running.metrics.publishers.get(), stream.publisher().protocol), (1, "rtmp"));

    let mut second = Client::connect(running.address).await;
    second.publish("me?key=good").await;
    assert!(second.hears("NetStream.Publish.BadName").await && second.hears("published already").await);
    assert!(second.is_closed().await);
    assert!(!String::from_utf8_lossy(&second.heard).contains("127.0.0.1"), "who has it is no business of others");

    drop(client);
    catalog.wait_for(|catalog| catalog.ended).await.unwrap();
    assert_eq!(running.metrics.publishers.get(), 0);
}

#[tokio::test]
async fn a_refused_publisher_reads_why_before_the_connection_closes() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=bad").await;
    // Media that was under way already must not reset the connection.
    client.send(8, 0, vec![0; 100_000]).await;
    assert!(client.hears("NetStream.Publish.Unauthorized").await && client.hears("the stream key is not known").await);
    assert!(client.is_closed().await);
    assert_eq!(running.registry.streams().len(), 0);
}

#[tokio::test]
async fn a_publisher_is_held_to_its_bit_rate_and_told_why() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=small").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    client.send(8, 0, vec![0xAF, 0, 0x11, 0x90]).await;
    // Ten seconds at 8 kbit/s are 10,000 bytes.
    client.send(8, 0, [&[0xAF, 1][..], &[0x21; 11_000]].concat()).await;
    assert!(client.hears("NetStream.Publish.Denied").await && client.hears("lower the bit rate").await);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn to_stop_and_to_begin_again_is_no_way_around_a_limit() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=small").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    client.send(8, 0, [&[0xAF, 1][..], &[0x21; 6_000]].concat()).await;
    client.command("deleteStream", Amf0Value::Null, "").await;
    assert!(client.hears("NetStream.Unpublish.Success").await);
    client.heard.clear();
    client.command("publish", Amf0Value::Null, "me?key=small").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    client.send(8, 0, [&[0xAF, 1][..], &[0x21; 6_000]].concat()).await;
    assert!(client.hears("lower the bit rate").await && client.is_closed().await);
}

#[tokio::test]
async fn a_publisher_is_held_to_its_time_and_gives_back_what_it_holds() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=short").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    assert!(client.hears("50ms of publishing are over").await && client.is_closed().await);
    assert_eq!((running.metrics.publishers.get(), Arc::strong_count(&running.leased)), (0, 2));
}

#[tokio::test]
async fn other_protocols_are_closed_without_an_answer() {
    let running = start(64).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn one_address_gets_its_share_of_connections() {
    let running = start(2).await;
    let mut first = Client::connect(running.address).await;
    let _second = Client::connect(running.address).await;
    let mut third = TcpStream::connect(running.address).await.unwrap();
    let mut buffer = [0];
    assert!(matches!(third.read(&mut buffer).await, Ok(0) | Err(_)));
    first.publish("me?key=good").await;
    assert!(first.hears("NetStream.Publish.Start").await, "who is inside is not disturbed");
}

#[tokio::test]
async fn a_panic_ends_one_connection_alone() {
    let running = start(64).await;
    let mut good = Client::connect(running.address).await;
    let mut bad = Client::connect(running.address).await;
    bad.publish("me?key=panic").await;
    assert!(bad.is_closed().await);
    good.publish("me?key=good").await;
    assert!(good.hears("NetStream.Publish.Start").await);
    assert_eq!(running.metrics.rtmp_connections.get(), 1);
}

#[tokio::test]
async fn shutdown_tells_publishers_and_returns() {
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=good").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    running.shutdown.cancel();
    assert!(client.hears("shutting down").await && client.is_closed().await);
    drop(client);
    running.task.await.unwrap();
    assert_eq!(running.metrics.rtmp_connections.get(), 0);
}

#[tokio::test]
async fn a_flood_of_access_units_leaves_others_their_turn() {
    const FRAMES: u32 = 20_000;
    // A part has ten frames; a turn, three parts and a few.
    const MOST_PARTS_A_TURN: u64 = 8;
    // Sound waits for a picture at first, and comes at once: a second and a half of it.
    const WAITED_PARTS: u64 = 7;
    let running = start(64).await;
    let mut client = Client::connect(running.address).await;
    client.publish("me?key=good").await;
    assert!(client.hears("NetStream.Publish.Start").await);
    client.send(8, 0, vec![0xAF, 0, 0x11, 0x90]).await;
    let mut flood = Vec::new();
    for n in 0..FRAMES {
        let timestamp = RtmpTimestamp::new(n * 64 / 3);
        let message =
            MessagePayload { timestamp, type_id: 8, message_stream_id: 1, data: vec![0xAF, 1, 0x21, 0, 0, 0].into() };
        flood.extend_from_slice(&client.serializer.serialize(&message, false, false).unwrap().bytes);
    }
    let sending = tokio::spawn(async move {
        client.stream.write_all(&flood).await.unwrap();
        client
    });
    let stream = running.registry.stream(&StreamName::new("live", "me").unwrap()).unwrap();
    let (mut parts, mut most) = (0, 0);
    while parts < u64::from(FRAMES) / 10 - 10 {
        tokio::task::yield_now().await;
        let Some(window) = stream.windows().first().cloned() else { continue };
        let waited = if parts == 0 { WAITED_PARTS } else { 0 };
        most = most.max(window.next_part.saturating_sub(parts + waited));
        parts = window.next_part;
    }
    assert!(most <= MOST_PARTS_A_TURN, "{most} parts were made while nobody else had a turn");
    sending.await.unwrap();
}
