//! What explain is asked: parsed from the command line, sent over the control socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::types::{NamespacedName, Protocol};

/// One run of `portico explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// What is asked.
    pub query: Query,
    /// `--output`
    pub output: OutputFormat,
}

/// What explain is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `explain`: a table of everything.
    All,
    /// `explain NAMESPACE/NAME`
    Service(NamespacedName),
    /// `explain --from IP --to IP:PORT[/PROTOCOL]`
    Flow(Flow),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

impl OutputFormat {
    /// Parses `--output`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The option's spelling.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

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

impl ExplainRequest {
    /// As it goes over the control socket.
    pub fn to_json(&self) -> Value {
        let output = self.output.as_str();
        match &self.query {
            Query::All => json!({"explain": "all", "output": output}),
            Query::Service(name) => {
                json!({"explain": "service", "service": name.to_string(), "output": output})
            }
            Query::Flow(flow) => json!({
                "explain": "flow",
                "from": flow.from.to_string(),
                "to": format!("{}/{}", flow.to, flow.protocol),
                "output": output,
            }),
        }
    }

    /// The other way.
    pub fn from_json(value: &Value) -> Result<Self, InvalidRequest> {
        let field = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| InvalidRequest(format!("invalid request: no text in {name:?}")))
        };
        let query = match field("explain")? {
            "all" => Query::All,
            "service" => {
                let name = field("service")?;
                let parsed = NamespacedName::parse(name).ok_or_else(|| {
                    InvalidRequest(format!("invalid Service {name:?}: want NAMESPACE/NAME"))
                });
                Query::Service(parsed?)
            }
            "flow" => Query::Flow(Flow::parse(field("from")?, field("to")?)?),
            other => return Err(InvalidRequest(format!("invalid request: {other:?}"))),
        };
        let output = field("output")?;
        let output = OutputFormat::parse(output).ok_or_else(|| {
            InvalidRequest(format!("invalid output {output:?}: want text or json"))
        })?;
        Ok(Self { query, output })
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

    #[test]
    fn requests_survive_the_socket() {
        let queries = [
            Query::All,
            Query::Service(NamespacedName::new("shop", "web")),
            Query::Flow(Flow::parse("fd00::2", "[fd00::1]:53/UDP").unwrap()),
        ];
        for query in queries {
            for output in [OutputFormat::Text, OutputFormat::Json] {
                let request = ExplainRequest {
                    query: query.clone(),
                    output,
                };
                assert_eq!(ExplainRequest::from_json(&request.to_json()), Ok(request));
            }
        }
        for bad in [
            json!(null),
            json!({"explain": "all"}),
            json!({"explain": 1, "output": "json"}),
        ] {
            assert!(ExplainRequest::from_json(&bad).is_err(), "{bad}");
        }
    }
}
