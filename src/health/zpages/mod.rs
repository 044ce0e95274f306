//! /flagz and /statusz: what runs here with which flags, for people and as objects. Pure.

mod accept;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::http::{JSON, Request, Response, TEXT};
use accept::{Form, GROUP};

/// Whose pages these are, to whoever collects them.
const COMPONENT: &str = "kube-proxy";

/// The page in the form that is asked for: its text, or its object's fields.
fn page(request: &Request, kind: &str, text: String, fields: Value) -> Response {
    match accept::form(&request.accept, kind) {
        None => {
            let kinds = format!("text/plain or application/json;g={GROUP};v=v1beta1;as={kind}");
            let text = format!("media type not acceptable, must be: {kinds}\n");
            Response::new(406, TEXT, text)
        }
        Some(Form::Text) => {
            let name = kind.to_lowercase();
            let text = format!(
                "\n{COMPONENT} {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
                 compatibility guarantees and is for debugging purposes only.\n\n{text}"
            );
            Response::new(200, TEXT, text)
        }
        Some(Form::Structured(version)) => {
            let mut object = fields;
            object["kind"] = kind.into();
            object["apiVersion"] = format!("{GROUP}/{version}").into();
            object["metadata"] = json!({"name": COMPONENT});
            Response::new(200, JSON, format!("{object}\n"))
        }
    }
}

/// Every flag with the value in effect.
pub(super) fn flagz(request: &Request, flags: &[(String, String)]) -> Response {
    let mut text = String::new();
    for (name, value) in flags {
        let _ = writeln!(text, "{name}={value}");
    }
    let flags = flags
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let fields = json!({"flags": Value::Object(flags.collect())});
    page(request, "Flagz", text, fields)
}

/// Since when we run, and what; `paths` are those that are served.
pub(super) fn statusz(
    request: &Request,
    paths: &[&str],
    started: SystemTime,
    now: SystemTime,
) -> Response {
    let up = now.duration_since(started).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "Started: {}\nUp: {}\nBinary version: portico {version}\nPaths: {}\n",
        unix_date(started),
        uptime(up),
        paths.join(" "),
    );
    let seconds = OffsetDateTime::from(started).replace_nanosecond(0);
    let start_time = seconds.ok().and_then(|time| time.format(&Rfc3339).ok());
    let fields = json!({
        "startTime": start_time, "uptimeSeconds": up.as_secs(), "goVersion": "",
        "binaryVersion": format!("portico {version}"), "paths": paths,
    });
    page(request, "Statusz", text, fields)
}

/// Go's time.UnixDate.
fn unix_date(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (weekday, month) = (time.weekday().to_string(), time.month().to_string());
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let (hour, minute, second) = time.to_hms();
    format!(
        "{} {} {:>2} {hour:02}:{minute:02}:{second:02} UTC {}",
        short(&weekday),
        short(&month),
        time.day(),
        time.year()
    )
}

fn uptime(up: Duration) -> String {
    let seconds = up.as_secs();
    format!(
        "{} hr {:02} min {:02} sec",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::super::http::{Body, parse};
    use super::*;

    fn ask(accept: &str) -> Request {
        let head = format!("GET /x HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
        parse(head.as_bytes()).ok().flatten().expect("a whole head")
    }

    fn read(response: Response) -> (u16, String) {
        match response.body {
            Body::Whole(body) => (response.status, body),
            Body::Pieces(pieces) => (response.status, pieces.collect()),
        }
    }

    fn started() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_699_920_000_250)
    }

    fn statusz_after(seconds: u64, accept: &str) -> (u16, String) {
        let now = started() + Duration::from_secs(seconds);
        let paths = ["/metrics", "/statusz"];
        read(statusz(&ask(accept), &paths, started(), now))
    }

    #[test]
    fn pages_for_people() {
        let flags = [("cluster-cidr".to_owned(), "10.0.0.0/8".to_owned())];
        let (status, body) = read(flagz(&ask("*/*"), &flags));
        assert_eq!(status, 200);
        assert!(body.starts_with("\nkube-proxy flagz\nWarning: "), "{body}");
        assert!(body.ends_with(".\n\ncluster-cidr=10.0.0.0/8\n"), "{body}");

        let (status, body) = statusz_after(90_061, "text/plain");
        assert_eq!(status, 200);
        let expect = "Started: Tue Nov 14 00:00:00 UTC 2023\nUp: 25 hr 01 min 01 sec\nBinary version: portico ";
        assert!(body.contains(expect), "{body}");
        assert!(body.ends_with("\nPaths: /metrics /statusz\n"), "{body}");
    }

    #[test]
    fn pages_as_objects() {
        let flags = [("cluster-cidr".to_owned(), "10.0.0.0/8".to_owned())];
        let accept = "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz";
        let (status, body) = read(flagz(&ask(accept), &flags));
        let expect = json!({
            "kind": "Flagz", "apiVersion": "config.k8s.io/v1alpha1", "metadata": {"name": "kube-proxy"},
            "flags": {"cluster-cidr": "10.0.0.0/8"},
        });
        assert_eq!((status, body.parse::<Value>().ok()), (200, Some(expect)));

        let accept = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        let (status, body) = statusz_after(856, accept);
        let expect = json!({
            "kind": "Statusz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "kube-proxy"},
            "startTime": "2023-11-14T00:00:00Z", "uptimeSeconds": 856, "goVersion": "",
            "binaryVersion": format!("portico {}", env!("CARGO_PKG_VERSION")),
            "paths": ["/metrics", "/statusz"],
        });
        assert_eq!((status, body.parse::<Value>().ok()), (200, Some(expect)));
    }

    #[test]
    fn what_is_neither_is_not_acceptable() {
        for accept in [
            "application/json",
            "text/html",
            "application/json;v=v1beta1;g=config.k8s.io;as=Flagz",
        ] {
            let (status, body) = statusz_after(1, accept);
            assert_eq!(status, 406, "{accept}");
            assert!(body.contains("as=Statusz"), "{body}");
        }
    }
}
