//! URLs of apiservers and of proxies.

use std::fmt;
use std::net::IpAddr;

/// What a URL says about whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Without a slash at its end.
    url: String,
    pub(in crate::api) tls: bool,
    /// A name, or an address without brackets and without zone.
    pub(in crate::api) host: String,
    /// The interface that a link-local address belongs to.
    zone: Option<String>,
    pub(in crate::api) port: u16,
    /// Begins with a slash, or is empty.
    path: String,
}

impl Server {
    /// The base of all requests' URLs; without a scheme it is https if anything about TLS is configured, as client-go has it.
    pub(super) fn parse(text: &str, tls: bool) -> Result<Self, String> {
        let text = text.trim();
        let default = if tls { "https" } else { "http" };
        let (scheme, rest) = text.split_once("://").unwrap_or((default, text));
        let rest = rest.trim_end_matches('/');
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(format!("{text:?} is no http or https URL")),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if rest.contains(['?', '#']) || authority.contains('@') {
            return Err(format!(
                "{text:?} has more than scheme, host, port and path"
            ));
        }
        let authority = Authority::parse(authority, text)?;
        // The scheme may have capitals in the user's spelling.
        let scheme = if tls { "https" } else { "http" };
        let server = Self {
            url: format!("{scheme}://{rest}"),
            tls,
            host: authority.host.to_owned(),
            zone: authority.zone.map(str::to_owned),
            port: authority.port.unwrap_or(if tls { 443 } else { 80 }),
            path: path.to_owned(),
        };
        // What a request is made from.
        let base = server.base().parse::<ureq::http::Uri>();
        base.map_err(|error| format!("{text:?} is no URL: {error}"))?;
        Ok(server)
    }

    /// As it was written, for messages.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// What paths are appended to. A zone is ours alone (RFC 6874): it is in no request.
    pub(in crate::api) fn base(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// `host:port`, as in a request.
    pub(in crate::api) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// What to look up: the name, or the address with its zone.
    pub(in crate::api) fn lookup(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host),
            None => self.host.clone(),
        }
    }

    /// The address, if the URL has one and not a name.
    pub(in crate::api) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// What is sent there never leaves this machine. Names below `localhost` are loopback addresses (RFC 6761).
    pub(in crate::api) fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => {
                let name = self.host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// `host`, `host:port`, `[address]:port`, `[address%25zone]:port`.
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) zone: Option<&'a str>,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `whole` is what the user wrote.
    pub(super) fn parse(text: &'a str, whole: &str) -> Result<Self, String> {
        let (host, zone, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, port) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("{whole:?}: the bracket is not closed"))?;
                let (host, zone) = match inside.split_once('%') {
                    // RFC 6874 wants the percent sign itself escaped.
                    Some((host, zone)) => (host, Some(zone.strip_prefix("25").unwrap_or(zone))),
                    None => (inside, None),
                };
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(format!("{whole:?}: {host:?} is no IPv6 address"));
                }
                (host, zone, port)
            }
            None if text.matches(':').count() > 1 => {
                return Err(format!(
                    "{whole:?}: an IPv6 address is written in brackets: {}",
                    bracketed(text)
                ));
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (host, None, port)
            }
        };
        if host.is_empty() || zone == Some("") {
            return Err(format!("{whole:?} has no host"));
        }
        let port = match port {
            "" | ":" => None,
            port => match port.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) if port > 0 => Some(port),
                Some(_) | None => {
                    return Err(format!(
                        "{whole:?}: {:?} is no port",
                        port.trim_start_matches(':')
                    ));
                }
            },
        };
        Ok(Self { host, zone, port })
    }
}

/// What was meant by an address without brackets: what comes last is its port, if that makes sense.
fn bracketed(text: &str) -> String {
    let parts = text.rsplit_once(':');
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    match parts {
        Some((host, port)) if address(host) && port.parse::<u16>().is_ok() => {
            format!("[{host}]:{port}")
        }
        _ if address(text) => format!("[{text}]"),
        _ => "[ADDRESS]:PORT".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let rows = [
            // text, TLS configured, what is looked up, authority, base
            (
                "https://10.0.0.1:6443/",
                false,
                "10.0.0.1",
                "https://10.0.0.1:6443",
            ),
            ("https://h/", false, "h", "https://h:443"),
            ("http://h", true, "h", "http://h:80"),
            ("h:1", false, "h", "http://h:1"),
            ("h:1", true, "h", "https://h:1"),
            ("HttpS://H/A/b//", false, "H", "https://H:443/A/b"),
            (" https://h: ", false, "h", "https://h:443"),
            (
                "https://[fd00::1]:6443/k8s/",
                false,
                "fd00::1",
                "https://[fd00::1]:6443/k8s",
            ),
            ("https://[::1]", false, "::1", "https://[::1]:443"),
            (
                "https://[fe80::1%25eth0]:6443",
                false,
                "fe80::1%eth0",
                "https://[fe80::1]:6443",
            ),
            (
                "https://[fe80::1%eth0]",
                false,
                "fe80::1%eth0",
                "https://[fe80::1]:443",
            ),
        ];
        for (text, tls, lookup, base) in rows {
            let server = Server::parse(text, tls).expect(text);
            assert_eq!(
                (server.lookup().as_str(), server.base().as_str()),
                (lookup, base)
            );
            assert!(!server.as_str().ends_with('/'), "{server}");
        }
    }

    #[test]
    fn what_is_no_url() {
        let rows = [
            ("ftp://h", "\"ftp://h\" is no http or https URL"),
            ("https://", "\"https://\" has no host"),
            ("http:///", "\"http:///\" has no host"),
            ("https://:6443", "\"https://:6443\" has no host"),
            (
                "https://h:99999",
                "\"https://h:99999\": \"99999\" is no port",
            ),
            ("https://h:0", "\"https://h:0\": \"0\" is no port"),
            ("https://h:x", "\"https://h:x\": \"x\" is no port"),
            (
                "https://u:p@h",
                "\"https://u:p@h\" has more than scheme, host, port and path",
            ),
            (
                "https://h/?a",
                "\"https://h/?a\" has more than scheme, host, port and path",
            ),
            (
                "https://::1:6443",
                "\"https://::1:6443\": an IPv6 address is written in brackets: [::1]:6443",
            ),
            (
                "https://fd00::1",
                "\"https://fd00::1\": an IPv6 address is written in brackets: [fd00::1]",
            ),
            (
                "fd00:0:0:0:0:0:0:1:6443",
                "\"fd00:0:0:0:0:0:0:1:6443\": an IPv6 address is written in brackets: [fd00:0:0:0:0:0:0:1]:6443",
            ),
            (
                "https://a:b:c",
                "\"https://a:b:c\": an IPv6 address is written in brackets: [ADDRESS]:PORT",
            ),
            (
                "https://[::1",
                "\"https://[::1\": the bracket is not closed",
            ),
            (
                "https://[h]:1",
                "\"https://[h]:1\": \"h\" is no IPv6 address",
            ),
            (
                "https://[::1]6443",
                "\"https://[::1]6443\": \"6443\" is no port",
            ),
            (
                "https://[fe80::1%25]",
                "\"https://[fe80::1%25]\" has no host",
            ),
        ];
        for (text, expect) in rows {
            assert_eq!(Server::parse(text, false), Err(expect.to_owned()));
        }
        assert!(Server::parse("https://a b", false).is_err());
    }

    #[test]
    fn loopback() {
        for (text, expect) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]", true),
            ("localhost:8080", true),
            ("LocalHost.", true),
            ("api.localhost", true),
            ("10.0.0.1", false),
            ("localhost.example.org", false),
            ("[fe80::1]", false),
            ("0.0.0.0", false),
        ] {
            let server = Server::parse(text, false).expect(text);
            assert_eq!(server.is_loopback(), expect, "{text}");
        }
    }
}
