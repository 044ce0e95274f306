//! `proxy-url`: what stands between us and the apiserver.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::server::{Authority, Server};

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(in crate::api) server: Server,
    /// `Proxy-Authorization`
    pub(in crate::api) authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    // The password stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.server)
    }
}

impl Proxy {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("expected http://HOST:PORT or https://HOST:PORT".to_owned());
        };
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(format!(
                "{scheme} proxies are not supported; http and https ones are"
            ));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, authority),
        };
        // Without the password, which no message may show.
        let url = format!("{scheme}://{authority}");
        Authority::parse(authority, &url)?;
        let server = Server::parse(&url, false)?;
        Ok(Self {
            server,
            authorization: user.map(authorization).transpose()?,
        })
    }
}

fn authorization(user: &str) -> Result<String, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = (decode(name), decode(password));
    let (Some(name), Some(password)) = decoded else {
        return Err("name and password are not percent-encoded as they should be".to_owned());
    };
    let both = STANDARD.encode([name, b":".to_vec(), password].concat());
    Ok(format!("Basic {both}"))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after.get(2..)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let proxy = Proxy::parse("http://proxy.example.org:3128/").expect("a proxy");
        assert_eq!(proxy.server.authority(), "proxy.example.org:3128");
        assert_eq!((proxy.server.tls, proxy.authorization), (false, None));
        let proxy = Proxy::parse("HTTPS://a%40b:c%3Ad@[fd00::1]").expect("a proxy");
        assert_eq!(proxy.server.authority(), "[fd00::1]:443");
        assert_eq!(format!("{proxy:?}"), "Proxy(https://[fd00::1])");
        // a@b:c:d
        assert_eq!(proxy.authorization.as_deref(), Some("Basic YUBiOmM6ZA=="));
        for (text, expect) in [
            (
                "proxy:3128",
                "expected http://HOST:PORT or https://HOST:PORT",
            ),
            (
                "socks5://h:1",
                "socks5 proxies are not supported; http and https ones are",
            ),
            ("http://u:p@", "\"http://\" has no host"),
            (
                "http://u:%zz@h",
                "name and password are not percent-encoded as they should be",
            ),
        ] {
            assert_eq!(Proxy::parse(text), Err(expect.to_owned()));
        }
    }
}
