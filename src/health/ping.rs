//! The generic server's /healthz, whose answers /metrics/slis counts. Pure.

use std::fmt::Write as _;

use super::http::{Request, Response, TEXT};
use super::metrics::SyncMetrics;

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
    use std::time::SystemTime;

    use super::super::http::{Body, parse};
    use super::*;

    fn ask(query: &str) -> Request {
        let head = format!("GET /x?{query} HTTP/1.1\r\n\r\n");
        parse(head.as_bytes()).ok().flatten().expect("a whole head")
    }

    fn text(response: Response) -> (u16, String) {
        match response.body {
            Body::Whole(body) => (response.status, body),
            Body::Pieces(pieces) => (response.status, pieces.collect()),
        }
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
            let found = text(ping(&ask(query), &metrics));
            assert_eq!(found, (200, expect), "{query}");
            assert_eq!(metrics.pings.get(), counted, "{query}");
        }
    }
}
