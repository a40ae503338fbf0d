//! RELIABILITY row 66: TLS that does not come along, comes in crumbs, or is none. And rows of HTTP/2 once more, over TLS.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::h2::{Client, PING, WINDOW_UPDATE, Wire, frame, request};
use super::http2::segment;
use super::peer::{connect_from, until_closed};
use super::rows::Rows;
use crate::common::wait_for;

fn limit(name: &str) -> String {
    format!("rillcast_http_limit_hits_total{{limit=\"{name}\"}}")
}

/// Takes any certificate: the server has made its own.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client() -> ClientConnection {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("usual versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a client")
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn patience(&mut self, limit: Duration) {
        self.sock.set_read_timeout(Some(limit)).expect("a time limit");
    }
}

/// A connection over TLS that speaks HTTP/2.
#[track_caller]
pub fn dial(address: SocketAddr, settings: &[(u16, u32)]) -> Client {
    Client::over(Box::new(StreamOwned::new(client(), connect_from([127, 0, 0, 1], address))), settings)
}

/// What a client says first.
fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    client().write_tls(&mut bytes).expect("memory can be written to");
    bytes
}

#[test]
fn tls_that_does_not_come_along() {
    let overrides = [("RILLCAST__EDGE__HANDSHAKE_TIMEOUT", "2s"), ("RILLCAST__EDGE__WRITE_TIMEOUT", "2s")];
    let mut rows = Rows::start(&overrides);
    let address = rows.server.https();
    let (tls, handshake) = (limit("tls"), limit("handshake_timeout"));

    rows.row("66 half handshakes", &[&handshake], |server| {
        // RELIABILITY says 20,000; 3,000 at a time are what this machine opens in a second.
        let before = Rows::footprint(server).resident_kib;
        let hello = hello();
        let mut held: Vec<_> = (0..3_000)
            .map(|number| {
                let mut stream = connect_from([127, 0, 0, 1], address);
                let _ = stream.write_all(&hello[..number % hello.len()]);
                stream
            })
            .collect();
        let start = Instant::now();
        for stream in &mut held {
            assert!(until_closed(stream, Duration::from_secs(15)).is_some(), "half a handshake is held");
        }
        assert!(start.elapsed() < Duration::from_secs(6), "all are closed after {:?}", start.elapsed());
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        assert!(grown < 3_000 * 24, "they cost {grown} KiB");
    });
    rows.row("66 records of one byte", &[], |_| {
        let hello = hello();
        let mut stream = connect_from([127, 0, 0, 1], address);
        for byte in &hello[5..] {
            let _ = stream.write_all(&[0x16, 3, 1, 0, 1, *byte]);
        }
        // Legal, if odd: answered or refused, and not waited for longer than the handshake may take.
        assert!(until_closed(&mut stream, Duration::from_secs(6)).is_some(), "records of one byte are held");
        let mut stream = connect_from([127, 0, 0, 1], address);
        let sent = std::iter::from_fn(|| stream.write_all(&[0x16, 3, 1, 0, 0]).ok()).take(2_000_000).count();
        assert!(until_closed(&mut stream, Duration::from_secs(6)).is_some(), "{sent} empty records are taken");
    });
    rows.row("66 what is no TLS", &[&tls], |_| {
        let mut wrong_name = hello();
        let at = wrong_name.windows(9).position(|window| window == b"localhost").expect("the name is in it");
        wrong_name[at..at + 9].copy_from_slice(b"\0\xFF../\r\n%s");
        let mut long = vec![0x16, 3, 1, 0xFF, 0xFF, 1, 0xFF, 0xFF, 0xFF];
        long.resize(70_000, 0);
        for words in [
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            &[0; 100],
            &[0x16, 3, 1, 0, 0xFF, 9],
            &long,
            &wrong_name,
            &[0x80, 0x2E, 1, 0, 2],
        ] {
            let mut stream = connect_from([127, 0, 0, 1], address);
            let _ = stream.write_all(words);
            let heard = until_closed(&mut stream, Duration::from_secs(6)).expect("it is closed");
            assert!(!heard.windows(5).any(|window| window == b"HTTP/"), "it is answered in the clear");
        }
    });
    rows.row("66 renegotiation and early data", &[], |_| {
        let openssl = |arguments: &[&str], says: &[u8]| {
            let mut process = Command::new("openssl")
                .args(["s_client", "-connect", &address.to_string()])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("openssl is installed");
            let mut input = process.stdin.take().expect("a pipe");
            let _ = input.write_all(says);
            // It reads what the server says until its own input ends.
            wait_for("a moment", Duration::from_secs(3), {
                let since = Instant::now();
                move || (since.elapsed() > Duration::from_secs(1)).then_some(())
            });
            drop(input);
            let output = process.wait_with_output().expect("openssl ends");
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        };
        let told = openssl(&["-tls1_2"], b"R\n");
        assert!(told.contains("RENEGOTIATING"), "openssl asks for it: {told}");
        assert!(!told.contains("verify return:1\nread R BLOCK"), "renegotiated: {told}");
        let after = told.split("RENEGOTIATING").nth(1).unwrap_or_default();
        assert!(after.contains("error") || after.contains("closed") || after.contains("no renegotiation"), "{told}");
        let told = openssl(&["-tls1_3"], b"");
        assert!(
            told.contains("Max Early Data: 0") || !told.contains("Max Early Data"),
            "early data is offered: {told}"
        );
    });
    rows.row("54 a flood of pings, over TLS", &[&limit("chatter")], |_| {
        let mut client = dial(address, &[]);
        let sent = client.flood(&frame(PING, 0, 0, &[1; 8]).repeat(500), Duration::from_secs(6), usize::MAX);
        assert!(client.listen(Duration::from_secs(6), |_| false).closed, "still open after {sent} bytes");
    });
    rows.row("55 windows of one byte, over TLS", &[&limit("write_timeout")], |server| {
        let path = segment(server);
        let mut client = dial(address, &[(4, 0)]);
        for n in 0..100 {
            client.send(&request(2 * n + 1, &path));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && !client.heard.closed {
            let more: Vec<u8> = (0..100).flat_map(|n| frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0, 0, 0, 1])).collect();
            client.send(&more);
            client.listen(Duration::from_millis(200), |_| false);
        }
        let held = start.elapsed();
        assert!(
            client.heard.closed && held < Duration::from_secs(7),
            "{} bytes held it for {held:?}",
            client.heard.body
        );
    });
    rows.finish();
}
