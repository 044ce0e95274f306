//! A connection that is asked about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::types::Protocol;

/// A connection that a client makes, or would make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client, as seen by the proxy.
    pub from: IpAddr,
    /// Where the client connects to.
    pub to: SocketAddr,
    /// How.
    pub protocol: Protocol,
}

impl Flow {
    /// Parses the values of `--from` and `--to`: `IP`, and `IP:PORT` or `[IPv6]:PORT`, with `/TCP`, `/UDP` or `/SCTP` (TCP
    /// when left out).
    pub fn parse(from: &str, to: &str) -> Result<Self, InvalidRequest> {
        let invalid = |what: &str, text: &str, want: &str| {
            InvalidRequest(format!("invalid {what} {text:?}: want {want}"))
        };
        let source = from
            .trim()
            .parse::<IpAddr>()
            .map_err(|_| invalid("--from", from, "an IP address"))?;
        let (address, protocol) = match to.trim().split_once('/') {
            Some((address, protocol)) => (address, Protocol::parse(protocol)),
            None => (to.trim(), Some(Protocol::Tcp)),
        };
        let (Ok(target), Some(protocol)) = (address.parse::<SocketAddr>(), protocol) else {
            return Err(invalid(
                "--to",
                to,
                "IP:PORT or [IP]:PORT, with /TCP, /UDP or /SCTP after it if not TCP",
            ));
        };
        let from = source.to_canonical();
        let to = SocketAddr::new(target.ip().to_canonical(), target.port());
        if from.is_ipv4() != to.is_ipv4() {
            return Err(InvalidRequest(format!(
                "--from {from} and --to {to} are not of the same address family"
            )));
        }
        Ok(Self { from, to, protocol })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}/{}", self.from, self.to, self.protocol)
    }
}

/// Not a question that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRequest(String);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidRequest {}

impl InvalidRequest {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_parse() {
        let parse = |from, to| Flow::parse(from, to).map(|flow| flow.to_string());
        let good = [
            ("10.0.0.2", "10.96.0.1:443", "10.0.0.2 to 10.96.0.1:443/TCP"),
            (
                "10.0.0.2",
                "10.96.0.10:53/udp",
                "10.0.0.2 to 10.96.0.10:53/UDP",
            ),
            (
                "fd00::2",
                "[fd00::1]:53/SCTP",
                "fd00::2 to [fd00::1]:53/SCTP",
            ),
            (
                "::ffff:10.0.0.2",
                "10.96.0.1:443/TCP",
                "10.0.0.2 to 10.96.0.1:443/TCP",
            ),
        ];
        for (from, to, expect) in good {
            assert_eq!(parse(from, to).as_deref(), Ok(expect));
        }
        let bad = [
            ("", "10.96.0.1:443"),
            ("10.0.0.2", "10.96.0.1"),
            ("10.0.0.2", "10.96.0.1:70000"),
            ("10.0.0.2", "10.96.0.1:443/ICMP"),
            ("10.0.0.2", "fd00::1:443"),
            ("10.0.0.2", "[fd00::1]:443"),
        ];
        for (from, to) in bad {
            assert!(parse(from, to).is_err(), "{from} {to}");
        }
    }
}
