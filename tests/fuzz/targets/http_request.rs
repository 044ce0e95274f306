//! Requests to the health and metrics servers: however they are cut, and whatever follows, the same request.

#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use portico::health::http::{LARGEST_HEAD, Request, parse};

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(LARGEST_HEAD)];
    let whole = outcome(bytes);
    // As a connection reads: until there is something to answer.
    let mut first = None;
    for end in 0..bytes.len() {
        match outcome(&bytes[..end]) {
            Ok(None) => {}
            other => {
                first = Some(other);
                break;
            }
        }
    }
    assert_eq!(first.as_ref().unwrap_or(&whole), &whole);
    match whole {
        Ok(None) => assert!(bytes.len() < LARGEST_HEAD, "it would wait for ever"),
        Ok(Some(request)) => assert!(!request.path.contains('?')),
        Err(status) => assert!(matches!(status, 400 | 431), "{status}"),
    }
});

/// What is understood, or the status of the answer.
fn outcome(bytes: &[u8]) -> Result<Option<Request>, u16> {
    parse(bytes).map_err(|response| {
        let head = response.head(None, SystemTime::UNIX_EPOCH);
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", response.status)));
        assert!(head.ends_with("\r\n\r\n"));
        response.status
    })
}
