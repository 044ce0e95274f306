//! What is asked over the control socket: a line in any pieces, and the question in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::control::line::{Line, TooLong};
use portico::routing::ExplainRequest;

/// Small, so that it is met.
const MOST: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 7] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
    let Ok((line, _)) = whole else {
        return;
    };
    assert!(line.len() <= MOST && !line.contains(&b'\n'));
    let Ok(question) = serde_json::from_slice(&line) else {
        return;
    };
    if let Ok(request) = ExplainRequest::from_json(&question) {
        let again = ExplainRequest::from_json(&request.to_json());
        assert_eq!(again, Ok(request), "{question}");
    }
});

fn read(bytes: &[u8], size: usize) -> Result<(Vec<u8>, bool), TooLong> {
    let mut line = Line::new(MOST);
    for piece in bytes.chunks(size) {
        if line.push(piece)? {
            return Ok((line.into_bytes(), true));
        }
    }
    Ok((line.into_bytes(), false))
}
