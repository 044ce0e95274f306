//! The last test target of `cargo test`: says how many tests of the targets before it were left out, and why.

#![forbid(unsafe_code)]

#[path = "util/left_out.rs"]
#[allow(dead_code)]
mod left_out;

fn main() {
    let found = left_out::take();
    let count: usize = found.values().sum();
    let reasons = found
        .into_iter()
        .map(|(why, count)| format!("{count}, since {why}"))
        .collect::<Vec<_>>()
        .join("; ");
    match count {
        0 => println!("\nno test was left out\n"),
        1 => println!("\n1 test was left out: {reasons}\n"),
        _ => println!("\n{count} tests were left out: {reasons}\n"),
    }
}
