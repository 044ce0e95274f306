//! /flagz and /statusz, the z-pages for people, and the generic server's /healthz with its count at /metrics/slis. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::http::{Request, Response, TEXT};
use super::metrics::SyncMetrics;

/// The paths that /statusz lists.
const PATHS: &str =
    "/configz /flagz /healthz /healthz/ping /metrics /metrics/slis /proxyMode /statusz";

fn page(request: &Request, name: &str, body: &str) -> Response {
    if !request.takes_text {
        let text = "media type not acceptable, must be: text/plain\n";
        return Response::new(406, TEXT, text);
    }
    let text = format!(
        "\nkube-proxy {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
         compatibility guarantees and is for debugging purposes only.\n\n{body}"
    );
    Response::new(200, TEXT, text)
}

/// Every flag with the value in effect.
pub(super) fn flagz(request: &Request, flags: &[(String, String)]) -> Response {
    let mut body = String::new();
    for (name, value) in flags {
        let _ = writeln!(body, "{name}={value}");
    }
    page(request, "flagz", &body)
}

/// Since when we run, and what.
pub(super) fn statusz(request: &Request, started: SystemTime, now: SystemTime) -> Response {
    let body = format!(
        "Started: {}\nUp: {}\nBinary version: portico {}\nPaths: {PATHS}\n",
        unix_date(started),
        uptime(now.duration_since(started).unwrap_or_default()),
        env!("CARGO_PKG_VERSION"),
    );
    page(request, "statusz", &body)
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

/// The generic server's own /healthz: its one check is that it answers.
pub(super) fn ping(request: &Request, metrics: &SyncMetrics) -> Response {
    let values = |name: &str| {
        let pairs = request.query.split('&').map(|pair| pair.split_once('='));
        let named = pairs.flatten().filter(|(key, _)| *key == name);
        named.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let excluded = values("exclude");
    let mut lines = String::new();
    if excluded.iter().any(|name| name == "ping") {
        lines.push_str("[+]ping excluded: ok\n");
    } else {
        metrics.pings.add(1);
        lines.push_str("[+]ping ok\n");
    }
    let unknown = excluded.iter().filter(|name| *name != "ping");
    let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        let _ = writeln!(
            lines,
            "warn: some health checks cannot be excluded: no matches for {names}"
        );
    }
    lines.push_str("healthz check passed\n");
    let verbose = |pair: &str| pair == "verbose" || pair.starts_with("verbose=");
    let text = match request.query.split('&').any(verbose) {
        true => lines,
        false => "ok".to_owned(),
    };
    Response::new(200, TEXT, text)
}

#[cfg(test)]
mod tests {
    use super::super::http::{Body, parse};
    use super::*;

    fn ask(query: &str, accept: &str) -> Request {
        let head = format!("GET /x?{query} HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
        parse(head.as_bytes()).ok().flatten().expect("a whole head")
    }

    fn text(response: Response) -> (u16, String) {
        match response.body {
            Body::Whole(body) => (response.status, body),
            Body::Pieces(pieces) => (response.status, pieces.collect()),
        }
    }

    #[test]
    fn pages_are_text_or_not_acceptable() {
        let flags = [("cluster-cidr".to_owned(), "10.0.0.0/8".to_owned())];
        let (status, body) = text(flagz(&ask("", "*/*"), &flags));
        assert_eq!(status, 200);
        assert!(body.starts_with("\nkube-proxy flagz\nWarning: "), "{body}");
        assert!(body.ends_with(".\n\ncluster-cidr=10.0.0.0/8\n"), "{body}");
        assert_eq!(text(flagz(&ask("", "application/json"), &flags)).0, 406);

        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_920_000);
        let now = started + Duration::from_secs(90_061);
        let (status, body) = text(statusz(&ask("", "text/plain"), started, now));
        assert_eq!(status, 200);
        let expect = "Started: Tue Nov 14 00:00:00 UTC 2023\nUp: 25 hr 01 min 01 sec\nBinary version: portico ";
        assert!(body.contains(expect), "{body}");
        assert_eq!(
            text(statusz(&ask("", "text/html"), started, now)).0,
            406,
            "not for a browser that takes nothing else"
        );
    }

    #[test]
    fn the_generic_healthz_is_apimachinerys() {
        let metrics = SyncMetrics::new(SystemTime::UNIX_EPOCH, Vec::new());
        let passed = "healthz check passed\n";
        for (query, expect, counted) in [
            ("", "ok".to_owned(), 1),
            ("verbose", format!("[+]ping ok\n{passed}"), 2),
            ("verbose=1", format!("[+]ping ok\n{passed}"), 3),
            ("exclude=ping", "ok".to_owned(), 3),
            (
                "verbose&exclude=ping",
                format!("[+]ping excluded: ok\n{passed}"),
                3,
            ),
            (
                "exclude=log&verbose",
                format!(
                    "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"log\"\n{passed}"
                ),
                4,
            ),
        ] {
            let found = text(ping(&ask(query, "*/*"), &metrics));
            assert_eq!(found, (200, expect), "{query}");
            assert_eq!(metrics.pings.get(), counted, "{query}");
        }
    }
}
