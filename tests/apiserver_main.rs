//! The tests' apiserver as a program, for scripts/demo and for trying things out.
//!
//! `apiserver --listen ADDRESS:PORT [--load FILE.json]...`: serves until it is killed; objects are changed with curl.

#![forbid(unsafe_code)]

#[path = "util/apiserver/mod.rs"]
mod apiserver;

use std::process::ExitCode;

use apiserver::{ApiServer, Release};
use serde_json::Value;

fn main() -> ExitCode {
    match run() {
        Ok(server) => {
            println!("{}", server.url());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("apiserver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ApiServer, String> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--listen" => listen = value,
            "--load" => files.push(value),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    let server = ApiServer::start_at(&listen, Release::V1_36)
        .map_err(|error| format!("{listen}: {error}"))?;
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let document: Value =
            serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        match document["items"].as_array() {
            Some(items) => items.iter().for_each(|item| server.put(item.clone())),
            None => server.put(document),
        }
    }
    Ok(server)
}
