//! TLS and the token: what the client presents, read anew when the files behind it change.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::error::Error;
use super::kubeconfig::{Config, Material, Token};

/// A token file is read again when what we know is this old (client-go: a minute, less ten seconds).
const TOKEN_AGE: Duration = Duration::from_secs(50);

/// The bytes that TLS is configured from; another value means another configuration.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    tls: bool,
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    pub(crate) fn read(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            tls: config.server.starts_with("https:"),
            ca: config.ca.as_ref().map(read).transpose()?,
            client: match &config.client {
                Some((cert, key)) => Some((read(cert)?, read(key)?)),
                None => None,
            },
        })
    }

    /// ureq's configuration from them.
    pub(crate) fn configure(&self, insecure: bool) -> Result<TlsConfig, Error> {
        let roots = match &self.ca {
            Some(pem) => certificates(pem, "certificate-authority")?,
            None if self.tls && !insecure => system_roots()?,
            None => Vec::new(),
        };
        let client = match &self.client {
            None => None,
            Some((cert, key)) => {
                check_client(cert, key)?;
                let chain = certificates(cert, "client-certificate")?;
                let key = PrivateKey::from_pem(key)
                    .map_err(|error| Error::config(format_args!("client-key: {error}")))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
        };
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider())
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(client)
            .disable_verification(insecure)
            .build())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Where distributions keep the certificates that the machine trusts (the list is Go's).
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Without a certificate-authority the machine's own ones count, as with client-go.
fn system_roots() -> Result<Vec<Certificate<'static>>, Error> {
    let file = std::env::var("SSL_CERT_FILE").ok();
    let mut files = file.iter().map(String::as_str).chain(SYSTEM_ROOTS);
    match files.find_map(|path| Some((path, fs::read(path).ok()?))) {
        Some((path, pem)) => certificates(&pem, path),
        None => Err(Error::config(
            "the kubeconfig has no certificate-authority, and this machine has no certificates of its own",
        )),
    }
}

fn read(material: &Material) -> Result<Vec<u8>, Error> {
    match material {
        Material::Data(data) => Ok(data.clone()),
        Material::File(path) => fs::read(path)
            .map_err(|error| Error::config(format_args!("{}: {error}", path.display()))),
    }
}

fn certificates(pem: &[u8], field: &str) -> Result<Vec<Certificate<'static>>, Error> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Error::config(format_args!("{field}: {error}"))),
        }
    }
    match certificates.is_empty() {
        true => Err(Error::config(format_args!(
            "{field}: there is no PEM certificate in it"
        ))),
        false => Ok(certificates),
    }
}

/// ureq takes it for granted that certificate and key are good and belong together, and panics otherwise.
fn check_client(cert: &[u8], key: &[u8]) -> Result<(), Error> {
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| Error::config(format_args!("client-key: {error}")))?;
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::config(format_args!("client-certificate: {error}")))?;
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(rustls::RootCertStore::empty()))
        .and_then(|builder| builder.with_client_auth_cert(chain, key))
        .map(drop)
        .map_err(|error| Error::config(format_args!("client-certificate and client-key: {error}")))
}

/// The value of the `Authorization` header, kept for a while.
#[derive(Default)]
pub(super) struct TokenCache {
    header: Option<String>,
    read: Option<Instant>,
}

impl TokenCache {
    /// The header's value; None without a token. A file that cannot be read leaves the last known token in force.
    pub(crate) fn header(&mut self, token: &Token, now: Instant) -> Option<&str> {
        let fresh = |read: Instant| now.saturating_duration_since(read) < TOKEN_AGE;
        if !self.read.is_some_and(fresh) {
            self.read = Some(now);
            match token {
                Token::None => {}
                Token::Fixed(token) => self.header = Some(format!("Bearer {token}")),
                Token::File(path) => match fs::read_to_string(path) {
                    Ok(token) => self.header = Some(format!("Bearer {}", token.trim())),
                    Err(error) => log::warn!("token file {}: {error}", path.display()),
                },
            }
        }
        self.header.as_deref()
    }

    /// The apiserver does not take it (any more): read it again before the next request.
    pub(crate) fn forget(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_again_after_a_while_or_when_refused() {
        let path = std::env::temp_dir().join(format!("portico-token-{}", std::process::id()));
        let write = |text: &str| fs::write(&path, text).expect("a file");
        let token = Token::File(path.clone());
        let mut cache = TokenCache::default();
        let start = Instant::now();
        write("one\n");
        assert_eq!(cache.header(&token, start), Some("Bearer one"));
        write("two");
        let soon = start + Duration::from_secs(49);
        assert_eq!(cache.header(&token, soon), Some("Bearer one"));
        cache.forget();
        assert_eq!(cache.header(&token, soon), Some("Bearer two"));
        write("three");
        let later = soon + Duration::from_secs(50);
        assert_eq!(cache.header(&token, later), Some("Bearer three"));
        fs::remove_file(&path).expect("removed");
        let gone = later + Duration::from_secs(50);
        assert_eq!(cache.header(&token, gone), Some("Bearer three"));
    }

    #[test]
    fn bad_certificates_are_errors_and_no_panic() {
        let files = |ca: &str, client: Option<(&str, &str)>| {
            let files = TlsFiles {
                tls: false,
                ca: (!ca.is_empty()).then(|| ca.as_bytes().to_vec()),
                client: client.map(|(cert, key)| (cert.into(), key.into())),
            };
            files
                .configure(false)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(files("", None), Ok(()));
        let none = "certificate-authority: there is no PEM certificate in it".to_string();
        assert_eq!(files("junk", None), Err(none));
        let cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(files("", Some(("junk", "junk"))).is_err());
        assert!(files("", Some((cert, "junk"))).is_err());
        assert!(files("", Some((cert, key))).is_err());
        assert!(files("", Some(("", key))).is_err());
    }
}
