//! What the targets share.
//!
//! Each target is given bytes by libFuzzer, has them decoded, and aborts on a panic, an overflow, a broken assertion, or
//! when it takes too long or too much memory. Beyond that each asserts what must hold of any input: that pieces make no
//! difference, that two ways to say a thing are decoded alike, that what was decoded can be written and decoded again.

use std::io::{self, Read};

use serde_json::Value;

/// Bytes that arrive a few at a time, as from a socket.
pub struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl<'a> Pieces<'a> {
    /// At most so many at a time.
    pub fn new(bytes: &'a [u8], size: usize) -> Self {
        Self { rest: bytes, size }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.size.min(room.len());
        self.rest.read(&mut room[..most])
    }
}

/// Equal but for the last digits of fractions, which serde_json rounds otherwise than Rust does.
pub fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => all_alike(a, b),
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, value)| b.get(key).is_some_and(|other| alike(value, other));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) if a.is_f64() || b.is_f64() => {
                x == y
                    || (x - y).abs() <= x.abs().max(y.abs()) * 1e-15
                    || x.abs().max(y.abs()) < 1e-300
            }
            _ => a == b,
        },
        _ => a == b,
    }
}

/// [`alike`], one by one.
pub fn all_alike(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
}
