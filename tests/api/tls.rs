//! TLS as a kubeconfig describes it, against a server whose certificate is for the name `kubernetes` only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use portico::api::client::{Client, Encoding};
use portico::api::{Access, AccessOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    folder.join(name)
}

fn config() -> ServerConfig {
    let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_file_iter(file(name)).expect(name);
        all.collect::<Result<_, _>>().expect(name)
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.crt"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = verifier
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("server.crt"), key)
        .expect("a certificate")
}

/// A server that answers with what it has seen: the Host header, and whether there was a client certificate.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = Arc::new(config());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // Clients that do not like the certificate hang up.
            thread::spawn(move || serve(config, stream).ok());
        }
    });
    address
}

fn serve(config: Arc<ServerConfig>, stream: TcpStream) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut host = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("host: ") {
            host = value.trim().to_string();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let stream = reader.get_mut();
    let known = stream.conn.peer_certificates().is_some();
    let body = format!("{host} {}", if known { "admin" } else { "anonymous" });
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())?;
    stream.flush()
}

/// What a client with this kubeconfig gets to see.
fn get(name: &str, mut cluster: Value, user: Value) -> String {
    let address = start();
    cluster["server"] = json!(format!("https://{address}"));
    let kubeconfig = json!({
        "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
    });
    let path = std::env::temp_dir().join(format!("portico-tls-{}-{name}", std::process::id()));
    fs::write(&path, kubeconfig.to_string()).expect("a file");
    let options = AccessOptions {
        kubeconfig: Some(path.clone()),
        master: None,
        ..AccessOptions::default()
    };
    let access = Access::load(&options);
    fs::remove_file(&path).expect("removed");
    let result = access
        .and_then(|access| Client::new(&access))
        .and_then(|mut client| client.get("/", Encoding::Identity));
    let text = match result {
        Ok(mut body) => {
            let mut text = String::new();
            body.read_to_string(&mut text).expect("a body");
            text
        }
        Err(error) => error.to_string(),
    };
    text.replace(&address.to_string(), "ADDRESS")
        .replace(&path.display().to_string(), "KUBECONFIG")
}

#[test]
fn the_certificate_must_be_signed_by_the_authority_for_the_name() {
    let ca = file("ca.crt");
    let named = json!({"certificate-authority": ca, "tls-server-name": "kubernetes"});
    assert_eq!(get("named", named.clone(), json!({})), "ADDRESS anonymous");
    let wrong = get("wrong", json!({"certificate-authority": ca}), json!({}));
    assert!(
        wrong.starts_with("https://ADDRESS: invalid peer certificate: "),
        "{wrong}"
    );
    assert!(
        wrong.ends_with(
            " (set tls-server-name in the kubeconfig to a name that the certificate has)"
        ),
        "{wrong}"
    );
    let other =
        json!({"certificate-authority": file("other.crt"), "tls-server-name": "kubernetes"});
    let unknown = get("other", other, json!({}));
    let by_none = |origin: &str| {
        format!(
            "https://ADDRESS: the server's certificate is signed by an unknown authority: by none in {origin}"
        )
    };
    let origin = format!("certificate-authority {}", file("other.crt").display());
    assert_eq!(unknown, by_none(&origin));
    // Without one the machine's own count, if it has any; none of them signed this server's.
    let machine = get(
        "machine",
        json!({"tls-server-name": "kubernetes"}),
        json!({}),
    );
    let none = "the kubeconfig has no certificate-authority, and this machine has no certificates of its own";
    let ours = "(the kubeconfig has no certificate-authority)";
    assert!(machine.ends_with(ours) || machine == none, "{machine}");
    let insecure = json!({"insecure-skip-tls-verify": true});
    assert_eq!(get("insecure", insecure, json!({})), "ADDRESS anonymous");
}

#[test]
fn a_client_certificate_is_presented() {
    let named = json!({"certificate-authority": file("ca.crt"), "tls-server-name": "kubernetes"});
    let client =
        json!({"client-certificate": file("client.crt"), "client-key": file("client.key")});
    assert_eq!(get("client", named.clone(), client), "ADDRESS admin");
    // With somebody else's key it is no use, and that is told before anything is connected.
    let mixed = json!({"client-certificate": file("client.crt"), "client-key": file("server.key")});
    let error = get("mixed", named.clone(), mixed);
    assert!(error.contains("do not belong together"), "{error}");
    let swapped =
        json!({"client-certificate": file("client.key"), "client-key": file("client.crt")});
    let error = get("swapped", named, swapped);
    assert!(
        error.ends_with("there is no PEM certificate in it"),
        "{error}"
    );
}
