use std::path::Path;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::*;

/// 2030-01-01 00:00 UTC
const NOW: u64 = 1_893_456_000;

fn pem(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    fs::read(folder.join(name)).expect(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    let mut all = certificates(&pem(name), name).expect(name);
    all.remove(0)
}

/// What is made of a server's certificate where this is the certificate-authority.
fn judge(server: &str, authority: &str) -> String {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Verifier::new(
        vec![certificate(authority)],
        provider.signature_verification_algorithms,
        format!("certificate-authority {authority}"),
    );
    let name = server_name("kubernetes").expect("a name");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let judged = verifier.verify_server_cert(&certificate(server), &[], &name, &[], now);
    match judged {
        Ok(_) => "trusted".to_owned(),
        Err(error) => verify::explain(&error),
    }
}

#[test]
fn servers_are_trusted_as_go_does() {
    let unknown = |authority: &str| {
        format!(
            "the server's certificate is signed by an unknown authority: by none in certificate-authority {authority}"
        )
    };
    let clock = "or this machine's clock is wrong: it says 2030-01-01 00:00 UTC";
    let rows = [
        ("server.crt", "ca.crt", "trusted".to_owned()),
        ("server.crt", "other.crt", unknown("other.crt")),
        // The certificate itself, byte for byte.
        ("server.crt", "server.crt", "trusted".to_owned()),
        ("self.crt", "self.crt", "trusted".to_owned()),
        ("self-ca.crt", "self-ca.crt", "trusted".to_owned()),
        ("self.crt", "ca.crt", unknown("ca.crt")),
        ("self-ca.crt", "ca.crt", unknown("ca.crt")),
        // Another one with the same name and key.
        ("self-ca.crt", "self.crt", unknown("self.crt")),
        // One that may sign others.
        ("both.crt", "ca.crt", "trusted".to_owned()),
        ("both-of-other.crt", "ca.crt", unknown("ca.crt")),
        ("both-of-other.crt", "other.crt", "trusted".to_owned()),
        (
            "expired.crt",
            "ca.crt",
            format!("the server's certificate expired on 2021-01-02 03:04 UTC, {clock}"),
        ),
        (
            "expired.crt",
            "expired.crt",
            format!("the server's certificate expired on 2021-01-02 03:04 UTC, {clock}"),
        ),
        (
            "future.crt",
            "ca.crt",
            format!("the server's certificate is valid only from 2100-01-01 00:00 UTC, {clock}"),
        ),
        (
            "of-old-ca.crt",
            "old-ca.crt",
            format!("certificate-authority old-ca.crt expired on 2015-01-01 00:00 UTC, {clock}"),
        ),
        (
            "of-p521-ca.crt",
            "p521-ca.crt",
            "certificate-authority p521-ca.crt has an ECDSA P-521 key, which portico cannot check (it knows P-256, P-384, \
             Ed25519 and RSA)"
                .to_owned(),
        ),
        ("of-p521-ca.crt", "of-p521-ca.crt", "trusted".to_owned()),
    ];
    for (server, authority, expect) in rows {
        assert_eq!(judge(server, authority), expect, "{server}, {authority}");
    }
    for authority in ["ca.crt", "for-clients.crt"] {
        let judged = judge("for-clients.crt", authority);
        assert!(judged.contains("extendedKeyUsage"), "{authority}: {judged}");
    }
    assert_eq!(
        judge("client-v1.crt", "client-v1.crt"),
        "the server's certificate is of X.509 version 1, which has no names to check (subjectAltName)"
    );
}

fn configure(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<(), String> {
    let identity = Identity {
        certificate: certificate.to_vec(),
        key: key.to_vec(),
        certificate_name: "client-certificate C".to_owned(),
        key_name: "client-key K".to_owned(),
    };
    let inputs = Inputs {
        authorities: Some((authority.to_vec(), "certificate-authority A".to_owned())),
        own: (!certificate.is_empty() || !key.is_empty()).then_some(identity),
        given: None,
        insecure: false,
    };
    let configured = inputs.configure();
    configured.map(drop).map_err(|error| error.to_string())
}

#[test]
fn certificates_and_keys_that_cannot_work_are_told() {
    let (ca, client, key) = (pem("ca.crt"), pem("client.crt"), pem("client.key"));
    assert_eq!(configure(b"", b"", &ca), Ok(()));
    assert_eq!(configure(&client, &key, &ca), Ok(()));
    // In one file, with other things before and between.
    let both = [b"# kept by hand\r\n", &key[..], b"text\n", &client, &ca].concat();
    assert_eq!(configure(&both, &both, &ca), Ok(()));
    assert_eq!(configure(&pem("client-v1.crt"), &key, &ca), Ok(()));
    // The server judges them.
    assert_eq!(configure(&pem("client-expired.crt"), &key, &ca), Ok(()));
    let marked = |pem: &[u8]| [b"\xef\xbb\xbf", pem].concat();
    assert_eq!(
        configure(&marked(&client), &marked(&key), &marked(&ca)),
        Ok(())
    );
    // What is broken in a bundle is left out.
    let broken = b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
    assert_eq!(configure(b"", b"", &[broken, &ca[..]].concat()), Ok(()));
    let torn = [&ca[..], &ca[..100]].concat();
    assert_eq!(configure(b"", b"", &torn), Ok(()));

    let passphrase = "client-key K: the private key is encrypted with a passphrase, and nobody is there to type it (openssl \
                      pkey -in ENCRYPTED -out PLAIN makes one without)";
    let p521 =
        "client-key K: ECDSA P-521 keys are not supported (P-256, P-384, Ed25519 and RSA are)";
    let apart = "client-certificate C and client-key K do not belong together: the private key does not match the \
                 certificate's public key";
    let rows = [
        (&client, pem("encrypted.key"), passphrase),
        (&client, pem("encrypted-legacy.key"), passphrase),
        (&pem("p521.crt"), pem("p521.key"), p521),
        (&client, pem("server.key"), apart),
        (&pem("client-v1.crt"), pem("server.key"), apart),
        (
            &client,
            client.clone(),
            "client-key K: there is no PEM private key in it",
        ),
        (
            &client,
            Vec::new(),
            "client-key K: there is no PEM private key in it",
        ),
        (
            &key,
            key.clone(),
            "client-certificate C: there is no PEM certificate in it",
        ),
    ];
    for (certificate, key, expect) in rows {
        assert_eq!(configure(certificate, &key, &ca), Err(expect.to_owned()));
    }
    let none = "certificate-authority A: there is no PEM certificate in it";
    for authority in [&b""[..], b"junk", &key] {
        assert_eq!(configure(b"", b"", authority), Err(none.to_owned()));
    }
    let der = certificate("ca.crt");
    let error = configure(b"", b"", &der).expect_err("no PEM");
    assert!(error.contains("openssl x509 -inform DER"), "{error}");
    let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = configure(empty, &key, &ca).expect_err("no certificate");
    assert_eq!(error, "client-certificate C: not an X.509 certificate");
}

#[test]
fn a_client_certificate_that_is_out_of_its_time_is_a_hint() {
    let inputs = |certificate: &str| Inputs {
        authorities: None,
        own: Some(Identity {
            certificate: pem(certificate),
            key: pem("client.key"),
            certificate_name: format!("client-certificate {certificate}"),
            key_name: "client-key client.key".to_owned(),
        }),
        given: None,
        insecure: false,
    };
    assert_eq!(inputs("client.crt").identity_problem(), None);
    let problem = inputs("client-expired.crt").identity_problem();
    let problem = problem.expect("expired");
    let start = "client-certificate client-expired.crt expired on 2021-01-02 03:04 UTC, or this machine's clock is wrong: ";
    assert!(problem.starts_with(start), "{problem}");
}
