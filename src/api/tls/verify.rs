//! Which servers are trusted: what Go's client trusts, so that a kubeconfig that kubectl takes works here.
//!
//! webpki decides nearly everything. Beyond it Go takes a server's certificate that is itself among the authorities, byte
//! for byte, and one that may issue certificates itself. What Go refuses and webpki does not look at is refused: an authority
//! whose time is over.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::certificate::{Certificate, Day, is_p521};

/// Decides about servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Where the authorities come from, for messages.
    origin: String,
}

/// What is wrong with a server's certificate, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

/// What went wrong with TLS, and what to do about it.
pub(super) fn explain(error: &Error) -> String {
    let advice = match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            return other.0.to_string();
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            "set tls-server-name in the kubeconfig to a name that the certificate has"
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "the server's certificate is one for clients: its extendedKeyUsage lacks serverAuth",
        Error::InvalidMessage(_) => {
            "is it a TLS server at all, or should the URL begin with http://?"
        }
        Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity,
        ) => {
            "server and portico have no cipher or signature in common: is its key ECDSA P-521? P-256, P-384, Ed25519 and \
             RSA work"
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired,
        ) => "the server refuses the kubeconfig's client certificate",
        _ => return error.to_string(),
    };
    format!("{error} ({advice})")
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        CertificateError::Other(OtherError(Arc::new(problem))).into()
    }
}

impl Verifier {
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
        origin: String,
    ) -> Self {
        Self {
            authorities,
            algorithms,
            origin,
        }
    }

    /// The chain from the server's certificate to an authority.
    fn verify_chain(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let fields = Certificate::parse(server);
        let Some(fields) = fields else {
            return Err(CertificateError::BadEncoding.into());
        };
        check_time(&fields, "the server's certificate", seconds)?;
        if !fields.is_v3 {
            let what = "which has no names to check (subjectAltName)";
            let what = format!("the server's certificate is of X.509 version 1, {what}");
            return Err(Problem(what).into());
        }
        if self.authorities.iter().any(|it| it == server) {
            return check_purpose(&fields);
        }
        if fields.is_authority {
            check_purpose(&fields)?;
            return self.verify_authority(&fields, seconds);
        }
        let roots = self.roots(|authority| authority.may_sign && authority.is_valid_at(seconds));
        let parsed = ParsedCertificate::try_from(server)?;
        let verify = |roots: &RootCertStore| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                algorithms,
            )
        };
        verify(&roots).map_err(|error| {
            // With those whose time is over it may be another matter.
            match verify(&self.roots(|authority| authority.may_sign)) {
                Ok(()) => self.expired(seconds),
                Err(_) => self.explained(error, &fields),
            }
        })
    }

    /// A server's certificate that may issue others: signed by one of the authorities itself.
    fn verify_authority(&self, server: &Certificate<'_>, now: i64) -> Result<(), Error> {
        let authorities = self.authorities.iter().filter_map(Certificate::parse);
        let mut signers = authorities.filter(|it| {
            it.subject == server.issuer
                && it.may_sign
                && !it.has_name_constraints
                && self.has_signed(it, server)
        });
        match signers.next() {
            None => Err(self.explained(CertificateError::UnknownIssuer.into(), server)),
            Some(signer) => check_time(&signer, &self.origin, now),
        }
    }

    fn has_signed(&self, signer: &Certificate<'_>, signed: &Certificate<'_>) -> bool {
        let mut algorithms = self.algorithms.all.iter().filter(|it| {
            it.signature_alg_id().as_ref() == signed.signature_algorithm
                && it.public_key_alg_id().as_ref() == signer.key_algorithm
        });
        algorithms.any(|it| {
            let verified = it.verify_signature(signer.key, signed.signed, signed.signature);
            verified.is_ok()
        })
    }

    fn roots(&self, wanted: impl Fn(&Certificate<'_>) -> bool) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let authorities = self.authorities.iter();
        let wanted = authorities.filter(|it| Certificate::parse(it).is_none_or(|it| wanted(&it)));
        // What webpki cannot read is no authority.
        roots.add_parsable_certificates(wanted.cloned());
        roots
    }

    fn expired(&self, now: i64) -> Error {
        let times = self.authorities.iter().filter_map(Certificate::parse);
        let mut problems = times.filter_map(|it| check_time(&it, &self.origin, now).err());
        let expired = || CertificateError::Expired.into();
        problems.next().unwrap_or_else(expired)
    }

    /// What the library says, where more is known.
    fn explained(&self, error: Error, server: &Certificate<'_>) -> Error {
        let of_signer = self.authorities.iter().filter_map(Certificate::parse);
        let p521 = of_signer.filter(|it| it.subject == server.issuer && is_p521(it.key_algorithm));
        match (&error, p521.count()) {
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), 0) => Problem(format!(
                "the server's certificate is signed by an unknown authority: by none in {}",
                self.origin
            ))
            .into(),
            (_, 0) => error,
            (_, _) => Problem(format!(
                "{} has an ECDSA P-521 key, which portico cannot check (it knows P-256, P-384, Ed25519 and RSA)",
                self.origin
            ))
            .into(),
        }
    }
}

fn check_time(certificate: &Certificate<'_>, whose: &str, now: i64) -> Result<(), Error> {
    let (verb, time) = match certificate {
        it if now > it.not_after => ("expired on", it.not_after),
        it if now < it.not_before => ("is valid only from", it.not_before),
        _ => return Ok(()),
    };
    let (time, now) = (Day(time), Day(now));
    let or = "this machine's clock is wrong";
    Err(Problem(format!("{whose} {verb} {time}, or {or}: it says {now}")).into())
}

fn check_purpose(certificate: &Certificate<'_>) -> Result<(), Error> {
    match certificate.may_serve {
        true => Ok(()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(server, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// For `insecure-skip-tls-verify`: anybody is trusted.
#[derive(Debug)]
pub(super) struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature by the key of a certificate that anybody can make says nothing.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]
    }
}
