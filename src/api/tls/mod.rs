//! TLS: from a kubeconfig's certificates and keys to rustls' configuration.

mod certificate;
mod verify;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::error::Error;
use super::kubeconfig::{Config, Material};
use certificate::{Certificate, Day, is_p521};
use verify::{Unverified, Verifier};

/// There is one server; what it gave for a quicker next handshake is all there is to remember.
const SESSIONS: usize = 2;

/// A client certificate with its key: PEM, and what to call them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) certificate_name: String,
    pub(super) key_name: String,
}

/// What TLS is configured from; another value means another configuration.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Inputs {
    /// PEM, and what to call it. None for the machine's own.
    authorities: Option<(Vec<u8>, String)>,
    own: Option<Identity>,
    /// What a credential plugin gave, which comes first.
    given: Option<Identity>,
    insecure: bool,
}

impl Inputs {
    /// Reads the files that a kubeconfig names. `given` is what a credential plugin gave.
    pub(super) fn read(config: &Config, given: Option<&Identity>) -> Result<Self, Error> {
        let own = match &config.user.client {
            Some((certificate, key)) => {
                let (certificate, certificate_name) = read(certificate, "client-certificate")?;
                let (key, key_name) = read(key, "client-key")?;
                Some(Identity {
                    certificate,
                    key,
                    certificate_name,
                    key_name,
                })
            }
            None => None,
        };
        let ca = config.ca.as_ref();
        let ca = ca.map(|ca| read(ca, "certificate-authority"));
        Ok(Self {
            authorities: ca.transpose()?,
            own,
            given: given.cloned(),
            insecure: config.insecure,
        })
    }

    /// What a credential plugin gave.
    pub(super) fn given(&self) -> Option<&Identity> {
        self.given.as_ref()
    }

    fn identity(&self) -> Option<&Identity> {
        self.given.as_ref().or(self.own.as_ref())
    }

    /// rustls' configuration. Certificates that cannot work are told now.
    pub(super) fn configure(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let identity = self.identity();
        let identity = identity
            .map(|identity| identity.load(&provider))
            .transpose()?;
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| Error::config(format_args!("TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            // Not checked by rustls: the server judges it, and not every server wants version 3 of X.509.
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(config))
    }

    fn verifier(&self, provider: &CryptoProvider) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let algorithms = provider.signature_verification_algorithms;
        if self.insecure {
            return Ok(Arc::new(Unverified));
        }
        let (certificates, origin) = match &self.authorities {
            Some((pem, name)) => (certificates(pem, name)?, name.clone()),
            None => system_roots()?,
        };
        Ok(Arc::new(Verifier::new(certificates, algorithms, origin)))
    }

    /// What may be why a server does not take our certificate.
    pub(super) fn identity_problem(&self) -> Option<String> {
        let identity = self.identity()?;
        let chain = certificates(&identity.certificate, "").ok()?;
        let own = Certificate::parse(chain.first()?)?;
        let name = &identity.certificate_name;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let now = i64::try_from(clock.as_secs()).ok()?;
        let (verb, time) = match own {
            it if now > it.not_after => ("expired on", it.not_after),
            it if now < it.not_before => ("is valid only from", it.not_before),
            _ => return None,
        };
        let (time, now) = (Day(time), Day(now));
        let or = "this machine's clock is wrong";
        Some(format!("{name} {verb} {time}, or {or}: it says {now}"))
    }
}

impl Identity {
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.certificate, &self.certificate_name)?;
        let key = private_key(&self.key, &self.key_name, provider)?;
        let own = chain.first().and_then(Certificate::parse);
        let Some(own) = own else {
            let name = &self.certificate_name;
            return Err(Error::config(format_args!(
                "{name}: not an X.509 certificate"
            )));
        };
        match key.public_key() {
            Some(public) if public.as_ref() != own.key_info => Err(Error::config(format_args!(
                "{} and {} do not belong together: the private key does not match the certificate's public key",
                self.certificate_name, self.key_name
            ))),
            _ => Ok(CertifiedKey::new(chain, key)),
        }
    }
}

/// The content, and what to call it in messages.
fn read(material: &Material, field: &str) -> Result<(Vec<u8>, String), Error> {
    match material {
        Material::Data(data) => Ok((data.clone(), format!("{field}-data"))),
        Material::File(path) => {
            let name = format!("{field} {}", path.display());
            let content = fs::read(path);
            let content =
                content.map_err(|error| Error::config(format_args!("{name}: {error}")))?;
            Ok((content, name))
        }
    }
}

/// The certificates in PEM. What is broken is left out, as Go does, while something is left.
fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut problem = "there is no PEM certificate in it".to_owned();
    let mut good = Vec::new();
    for item in CertificateDer::pem_slice_iter(without_mark(pem)) {
        match item {
            Ok(certificate) => good.push(certificate),
            Err(error) => problem = error.to_string(),
        }
    }
    if pem.starts_with(&[0x30, 0x82]) {
        problem.push_str(" (it looks like DER: openssl x509 -inform DER makes PEM of it)");
    }
    match good.is_empty() {
        true => Err(Error::config(format_args!("{name}: {problem}"))),
        false => Ok(good),
    }
}

/// A private key that rustls can sign with.
fn private_key(
    pem: &[u8],
    name: &str,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, Error> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::config(format_args!(
            "{name}: the private key is encrypted with a passphrase, and nobody is there to type it (openssl pkey -in \
             ENCRYPTED -out PLAIN makes one without)"
        )));
    }
    let der = PrivateKeyDer::from_pem_slice(without_mark(pem)).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            Error::config(format_args!("{name}: there is no PEM private key in it"))
        }
        error => Error::config(format_args!("{name}: {error}")),
    })?;
    let p521 = is_p521(der.secret_der());
    provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| match p521 {
            true => Error::config(format_args!(
                "{name}: ECDSA P-521 keys are not supported (P-256, P-384, Ed25519 and RSA are)"
            )),
            false => Error::config(format_args!("{name}: {error}")),
        })
}

/// Editors put a byte order mark before text.
fn without_mark(pem: &[u8]) -> &[u8] {
    pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem)
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
fn system_roots() -> Result<(Vec<CertificateDer<'static>>, String), Error> {
    let file = std::env::var("SSL_CERT_FILE").ok();
    let mut files = file.iter().map(String::as_str).chain(SYSTEM_ROOTS);
    match files.find_map(|path| Some((path, fs::read(path).ok()?))) {
        Some((path, pem)) => {
            let origin = format!("{path} (the kubeconfig has no certificate-authority)");
            Ok((certificates(&pem, path)?, origin))
        }
        None => Err(Error::config(
            "the kubeconfig has no certificate-authority, and this machine has no certificates of its own",
        )),
    }
}

/// The name that a server's certificate must have.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|error| Error::config(format_args!("tls-server-name {name:?}: {error}")))
}

/// In what [`explain`] says about a client certificate.
pub(super) const CLIENT_CERTIFICATE: &str = "client certificate";

/// What rustls said, inside an I/O error, in words that say what to do.
pub(super) fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(verify::explain(error))
}
