//! What explain is asked: parsed from the command line, sent over the control socket.

use serde_json::{Value, json};

use crate::routing::flow::{Flow, InvalidRequest};
use crate::types::NamespacedName;

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
    /// `explain`: a table of everything, or of some of it.
    All(Filter),
    /// `explain NAMESPACE/NAME`
    Service(NamespacedName),
    /// `explain --from IP --to IP:PORT[/PROTOCOL]`
    Flow(Flow),
}

/// Which Services a table is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `--namespace`
    pub namespace: Option<Box<str>>,
    /// `--problems`: what is wrong, without the table.
    pub problems_only: bool,
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

impl ExplainRequest {
    /// As it goes over the control socket.
    pub fn to_json(&self) -> Value {
        let output = self.output.as_str();
        match &self.query {
            Query::All(Filter {
                namespace,
                problems_only,
            }) => json!({
                "explain": "all",
                "namespace": namespace,
                "problems": problems_only,
                "output": output,
            }),
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
                .ok_or_else(|| InvalidRequest::new(format!("invalid request: no text in {name:?}")))
        };
        let query = match field("explain")? {
            // A client of another version may say less.
            "all" => Query::All(Filter {
                namespace: value
                    .get("namespace")
                    .and_then(Value::as_str)
                    .map(Into::into),
                problems_only: value.get("problems").and_then(Value::as_bool) == Some(true),
            }),
            "service" => {
                let name = field("service")?;
                let parsed = NamespacedName::parse(name).ok_or_else(|| {
                    InvalidRequest::new(format!("invalid Service {name:?}: want NAMESPACE/NAME"))
                });
                Query::Service(parsed?)
            }
            "flow" => Query::Flow(Flow::parse(field("from")?, field("to")?)?),
            other => return Err(InvalidRequest::new(format!("invalid request: {other:?}"))),
        };
        let output = field("output")?;
        let output = OutputFormat::parse(output).ok_or_else(|| {
            InvalidRequest::new(format!("invalid output {output:?}: want text or json"))
        })?;
        Ok(Self { query, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_socket() {
        let queries = [
            Query::All(Filter::default()),
            Query::All(Filter {
                namespace: Some("shop".into()),
                problems_only: true,
            }),
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
