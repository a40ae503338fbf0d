//! Which version of HTTP a connection speaks, and when hyper speaks it: from the first bytes of a request on. Before them, and between requests of
//! HTTP/1, nobody needs to, and a connection is not worth hyper's buffers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::BoxError;
use super::config::Config;
use super::executor::AtOnce;

/// What a client of HTTP/2 says first. Specification: RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest request head, and largest header list of HTTP/2 after decompression: HPACK bombs and CONTINUATION floods end here.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Header lines of one request.
const MAX_HEADERS: usize = 64;
/// What is buffered for a viewer that does not take it, per HTTP/2 stream.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What a client may send us unasked, per stream and connection: requests here have small bodies, or none.
const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams that a client may reset before we got to them (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that a client may make us reset (RUSTSEC-2024-0003 and its kin).
const MAX_ERROR_RESETS: usize = 128;

/// HTTP/1.1 and HTTP/2 with their limits.
#[derive(Debug)]
pub(super) struct Protocol {
    http1: http1::Builder,
    http2: http2::Builder<AtOnce>,
}

impl Protocol {
    pub(super) fn new(config: &Config) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // The watchdog sees to that, without a timer for every request.
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            // The end of what a viewer says is told to hyper only where it is to let go of a request (`Activity::outlasts_the_end`).
            .half_close(false);
        let mut http2 = http2::Builder::new(AtOnce);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams_per_connection)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .initial_stream_window_size(RECEIVE_WINDOW_BYTES)
            .initial_connection_window_size(RECEIVE_WINDOW_BYTES);
        Self { http1, http2 }
    }

    /// Answers by `service` what comes over `stream`, whichever of the two it is.
    pub(super) fn serve<S, V>(&self, stream: S, service: V) -> Exchange<'_, S, V>
    where
        V: HttpService<Incoming>,
    {
        let stream = Rewound { stream, ahead: Bytes::new() };
        Exchange { protocol: self, service, state: State::Silent { stream, is_http1: false } }
    }
}

/// The requests and answers of one connection.
pub(super) struct Exchange<'a, S, V: HttpService<Incoming>> {
    protocol: &'a Protocol,
    service: V,
    state: State<S, V>,
}

/// Hyper's connections are boxed: what is silent has no place for them.
enum State<S, V: HttpService<Incoming>> {
    /// Nothing of a request has come, or no more than a part of HTTP/2's preface.
    Silent {
        stream: Rewound<S>,
        /// It spoke HTTP/1 before.
        is_http1: bool,
    },
    Http1(Box<http1::Connection<TokioIo<Rewound<S>>, V>>),
    Http2(Box<http2::Connection<TokioIo<Rewound<S>>, V, AtOnce>>),
    /// Only while one state takes another's place.
    Changing,
}

impl<S, V, B> Exchange<'_, S, V>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: HttpService<Incoming, ResBody = B> + Clone,
    V::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    AtOnce: Http2ServerConnExec<V::Future, B>,
{
    /// Reads, answers and writes what can be. Ready when the connection is over, and not to be called again then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let State::Silent { stream, is_http1 } = &mut self.state {
            // Once HTTP/1, always: what is payload and what is chatter is told apart by it.
            let is_http1 = ready!(stream.poll_is_http1(cx))? || *is_http1;
            self.begin(is_http1);
        }
        match &mut self.state {
            State::Http1(connection) => Pin::new(connection).poll(cx).map_err(Into::into),
            State::Http2(connection) => Pin::new(connection).poll(cx).map_err(Into::into),
            State::Silent { .. } | State::Changing => Poll::Ready(Ok(())),
        }
    }

    /// Takes no more requests, and ends when those in flight are answered.
    pub(super) fn graceful_shutdown(&mut self) {
        // Where nobody speaks there is nothing to wait for; hyper knows how to say good-bye.
        self.begin(true);
        match &mut self.state {
            State::Http1(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Http2(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Silent { .. } | State::Changing => {}
        }
    }

    /// Lets go of hyper and of its buffers, where it speaks HTTP/1, until there is more to be read, and of empty lines before a request (RFC 9112 §2.2).
    /// True where nothing is left. Only for a connection that has nothing to answer or to write since it was polled last: hyper's memory of a request that is
    /// not over would be lost.
    pub(super) fn rest(&mut self) -> bool {
        self.state = match std::mem::replace(&mut self.state, State::Changing) {
            State::Http1(connection) => {
                let http1::Parts { io, read_buf, .. } = connection.into_parts();
                let mut stream = io.into_inner();
                stream.unread(&read_buf);
                stream.drop_empty_lines();
                State::Silent { stream, is_http1: true }
            }
            other => other,
        };
        matches!(&self.state, State::Silent { stream, .. } if stream.ahead.is_empty())
    }

    /// Has hyper speak, where nobody does.
    fn begin(&mut self, is_http1: bool) {
        self.state = match std::mem::replace(&mut self.state, State::Changing) {
            State::Silent { stream, .. } => {
                let (stream, service) = (TokioIo::new(stream), self.service.clone());
                if is_http1 {
                    State::Http1(Box::new(self.protocol.http1.serve_connection(stream, service)))
                } else {
                    State::Http2(Box::new(self.protocol.http2.serve_connection(stream, service)))
                }
            }
            other => other,
        };
    }
}

/// A stream that gives out again what was read of it too early.
#[derive(Debug)]
struct Rewound<S> {
    stream: S,
    ahead: Bytes,
}

impl<S> Rewound<S> {
    /// Gives out `bytes` before all others.
    fn unread(&mut self, bytes: &[u8]) {
        self.ahead = [bytes, &self.ahead].concat().into();
    }

    /// Forgets the empty lines that the bytes begin with which it would give out again.
    fn drop_empty_lines(&mut self) {
        while let Some(line) = ["\r\n", "\n"].iter().find(|line| self.ahead.starts_with(line.as_bytes())) {
            self.ahead.advance(line.len());
        }
    }
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// Reads until it is known whether HTTP/1 is spoken, or HTTP/2.
    fn poll_is_http1(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while PREFACE.starts_with(&self.ahead) {
            let mut place = [0; PREFACE.len()];
            let mut bytes = ReadBuf::new(place.get_mut(self.ahead.len()..).unwrap_or_default());
            if bytes.capacity() == 0 {
                return Poll::Ready(Ok(false));
            }
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes))?;
            if bytes.filled().is_empty() {
                break;
            }
            self.ahead = [&self.ahead, bytes.filled()].concat().into();
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, piece)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, poll_fn, ready};
    use std::time::Duration;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Answers with the path that was asked for.
    fn path(request: Request<Incoming>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
        ready(Ok(Response::new(request.uri().path().to_owned().into())))
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    /// Does once what there is to do. What tokio lets a task do without a pause would not last for a whole test.
    async fn once<T>(mut poll: impl FnMut(&mut Context<'_>) -> T) -> T {
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(poll(cx))).await
    }

    /// What was sent to `client`; nothing at its end.
    async fn heard(client: &mut DuplexStream) -> String {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(5), client.read(&mut bytes)).await;
        let count = read.expect("something was sent").expect("it is open");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn nothing_is_lost_by_a_rest() {
        let protocol = Protocol::new(&Config::default());
        let (mut client, server) = duplex(4096);
        let mut exchange = protocol.serve(server, service_fn(path));
        let second = get("/second");
        let (beginning, end) = second.split_at(9);
        client.write_all((get("/first") + beginning).as_bytes()).await.expect("it is open");
        assert!(once(|cx| exchange.poll(cx)).await.is_pending());
        assert!(heard(&mut client).await.ends_with("/first"));
        for piece in [end, get("/third").as_str()] {
            exchange.rest();
            exchange.rest();
            client.write_all(piece.as_bytes()).await.expect("it is open");
            assert!(once(|cx| exchange.poll(cx)).await.is_pending());
            let answer = heard(&mut client).await;
            assert!(answer.ends_with("/second") || answer.ends_with("/third"), "{answer}");
        }
        exchange.rest();
        assert!(once(|cx| exchange.poll(cx)).await.is_pending());
        assert!(matches!(exchange.state, State::Silent { .. }), "hyper is back without a reason");
    }

    #[tokio::test]
    async fn empty_lines_before_a_request_are_nothing() {
        let protocol = Protocol::new(&Config::default());
        let (mut client, server) = duplex(4096);
        let mut exchange = protocol.serve(server, service_fn(path));
        for (piece, nothing) in
            [("\r\n", true), ("\r\n\n\r\n", true), ("\r\nGET /sec", false), ("ond HTTP/1.1\r\n\r\n\r\n", true)]
        {
            if nothing && piece.len() < 10 {
                client.write_all(get("/first").as_bytes()).await.expect("it is open");
            }
            client.write_all(piece.as_bytes()).await.expect("it is open");
            assert!(once(|cx| exchange.poll(cx)).await.is_pending());
            if nothing {
                assert!(heard(&mut client).await.starts_with("HTTP/1.1 200 "), "{piece:?}");
            }
            assert_eq!(exchange.rest(), nothing, "{piece:?}");
        }
    }

    #[tokio::test]
    async fn both_protocols_are_known_however_they_come() {
        let protocol = Protocol::new(&Config::default());
        let request = get("/x");
        for (beginning, is_http1) in [
            (request.as_bytes(), true),
            (&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], true),
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], false),
        ] {
            for step in [1, 5, 100] {
                let (mut client, server) = duplex(4096);
                let mut exchange = protocol.serve(server, service_fn(path));
                for piece in beginning.chunks(step) {
                    client.write_all(piece).await.expect("it is open");
                    if once(|cx| exchange.poll(cx)).await.is_ready() {
                        break;
                    }
                }
                let answer = heard(&mut client).await;
                assert_eq!(answer.starts_with("HTTP/1.1 "), is_http1, "{answer:?} in steps of {step}");
            }
        }
    }

    #[tokio::test]
    async fn who_spoke_http_1_does_not_speak_http_2() {
        let protocol = Protocol::new(&Config::default());
        let (mut client, server) = duplex(4096);
        let mut exchange = protocol.serve(server, service_fn(path));
        client.write_all(get("/x").as_bytes()).await.expect("it is open");
        assert!(once(|cx| exchange.poll(cx)).await.is_pending());
        exchange.rest();
        client.write_all(PREFACE).await.expect("it is open");
        assert!(matches!(once(|cx| exchange.poll(cx)).await, Poll::Ready(Err(_))));
    }

    #[tokio::test]
    async fn who_rests_is_gone_at_once_when_it_is_to_go() {
        let protocol = Protocol::new(&Config::default());
        for first in ["", get("/x").as_str()] {
            let (mut client, server) = duplex(4096);
            let mut exchange = protocol.serve(server, service_fn(path));
            client.write_all(first.as_bytes()).await.expect("it is open");
            assert!(once(|cx| exchange.poll(cx)).await.is_pending());
            if !first.is_empty() {
                heard(&mut client).await;
            }
            exchange.rest();
            exchange.graceful_shutdown();
            assert!(matches!(once(|cx| exchange.poll(cx)).await, Poll::Ready(Ok(()))));
            assert_eq!(heard(&mut client).await, "", "it is closed");
        }
    }

    #[tokio::test]
    async fn the_end_is_noticed_at_rest() {
        let protocol = Protocol::new(&Config::default());
        let (mut client, server) = duplex(4096);
        let mut exchange = protocol.serve(server, service_fn(path));
        client.write_all(get("/x").as_bytes()).await.expect("it is open");
        assert!(once(|cx| exchange.poll(cx)).await.is_pending());
        exchange.rest();
        drop(client);
        assert!(matches!(once(|cx| exchange.poll(cx)).await, Poll::Ready(Ok(()))));
    }
}
