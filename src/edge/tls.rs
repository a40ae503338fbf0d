//! Certificates: the configured ones, or a self-signed one that is made on the first run and kept.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tracing::info;

use super::config::Config;

/// Why TLS cannot be offered. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM file is missing or holds something else.
    #[error("edge.{key}: {path}: {why}")]
    Pem {
        /// Of the configuration's table `edge`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key are no pair, or of a kind that is not supported.
    #[error("the certificate and the private key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// The self-signed certificate could not be made.
    #[error("a self-signed certificate cannot be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// … or not be kept.
    #[error("{path}: {error}")]
    Storage {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The certificate in use. Another can take its place while the server runs: handshakes from then on show it.
#[derive(Debug)]
pub struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

impl Certificate {
    /// The certificate that `config` names. Without one, one for `localhost`, `127.0.0.1`, `::1` and this machine's name is made in
    /// `data_dir/tls`, and used again on the next start. Reads and writes files.
    ///
    /// # Errors
    /// [`Error`], naming the file.
    pub fn load(config: &Config, data_dir: &Path) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(read(config, data_dir)?)) }))
    }

    /// Whether the files that `config` names can be used. Where it names none there is nothing to check. Reads files.
    ///
    /// # Errors
    /// [`Error`], naming the key and the file.
    pub fn check(config: &Config) -> Result<(), Error> {
        match (&config.certificate, &config.private_key) {
            (Some(certificate), Some(private_key)) => pair(certificate, private_key).map(drop),
            _ => Ok(()),
        }
    }

    /// Takes `other`'s certificate over from now on. True where it is another one.
    pub fn replace(&self, other: &Self) -> bool {
        let other = Arc::clone(&other.current.read());
        let mut current = self.current.write();
        let differs = current.cert != other.cert;
        *current = other;
        differs
    }

    /// TLS 1.2 and 1.3 with ALPN `h2` and `http/1.1`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // Tickets instead of a table of sessions: a viewer that comes back resumes, and costs us no memory until then.
        server.ticketer = ring::Ticketer::new()?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(server)))
    }
}

fn read(config: &Config, data_dir: &Path) -> Result<CertifiedKey, Error> {
    let (certificate, private_key) = match (&config.certificate, &config.private_key) {
        (Some(certificate), Some(private_key)) => (certificate.clone(), private_key.clone()),
        _ => self_signed(&data_dir.join("tls"))?,
    };
    pair(&certificate, &private_key)
}

fn pair(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, Error> {
    let pem = |key, path: &Path, error: rustls::pki_types::pem::Error| Error::Pem {
        key,
        path: path.into(),
        why: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem("certificate", certificate, error))?;
    if chain.is_empty() {
        return Err(Error::Pem { key: "certificate", path: certificate.into(), why: "it holds no certificate".into() });
    }
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| pem("private_key", private_key, error))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

fn self_signed(folder: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (certificate, private_key) = (folder.join("certificate.pem"), folder.join("private_key.pem"));
    if certificate.exists() && private_key.exists() {
        return Ok((certificate, private_key));
    }
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(host_name());
    let made = rcgen::generate_simple_self_signed(names)?;
    let storage = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Storage { path, error }
    };
    fs::create_dir_all(folder).map_err(storage(folder))?;
    // The key first: a crash in between leaves no certificate, and the next start makes both anew.
    let secret = made.signing_key.serialize_pem();
    write(&private_key, secret.as_bytes(), 0o600).map_err(storage(&private_key))?;
    write(&certificate, made.cert.pem().as_bytes(), 0o644).map_err(storage(&certificate))?;
    info!(certificate = %certificate.display(), "made a self-signed certificate");
    Ok((certificate, private_key))
}

/// Writes a file that is there whole or not at all, and never readable for others than `mode` says.
fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// This machine's name, where it is one that can stand in a certificate.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    (!name.is_empty() && name != "localhost" && name.bytes().all(legal)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().expect("a folder");
        Certificate::load(&Config::default(), dir.path()).expect("made").acceptor().expect("usable");
        let key = dir.path().join("tls/private_key.pem");
        let mode = fs::metadata(&key).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&key).expect("readable");
        Certificate::load(&Config::default(), dir.path()).expect("used again");
        assert_eq!(fs::read(&key).expect("readable"), before);
    }

    #[test]
    fn another_certificate_takes_the_place_of_the_first() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let load = |dir: &tempfile::TempDir| Certificate::load(&Config::default(), dir.path()).expect("made");
        let certificate = load(&one);
        assert!(!certificate.replace(&load(&one)), "it is the same one, read again");
        assert!(certificate.replace(&load(&other)));
        assert!(!certificate.replace(&load(&other)));
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.pem");
        fs::write(&path, "nonsense").expect("written");
        let config = Config { certificate: Some(path.clone()), private_key: Some(path), ..Config::default() };
        let error = Certificate::load(&config, dir.path()).expect_err("refused").to_string();
        assert!(error.contains("a.pem"), "{error}");
    }
}
