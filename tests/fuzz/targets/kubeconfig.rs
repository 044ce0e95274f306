//! Kubeconfigs: what is accepted can be used, and says the same in JSON.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portico::api::kubeconfig::{Config, Token};
use portico::wire::yaml;

fuzz_target!(|text: &str| {
    let folder = Path::new("/etc/kubernetes");
    let parsed = Config::parse(text, folder, None);
    let with_master = Config::parse(text, folder, Some("https://192.0.2.1:6443"));
    let Ok(config) = parsed else {
        return;
    };
    let server = config.server.as_str();
    assert!(server.starts_with("http://") || server.starts_with("https://"));
    assert!(!server.ends_with('/'), "{server}");
    if let Token::Fixed(token) = &config.user.token {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let mut other = with_master.expect("--master replaces the server alone");
    assert_eq!(other.server.as_str(), "https://192.0.2.1:6443");
    other.server = config.server.clone();
    assert_eq!(other, config);

    let documents = yaml::documents(text).expect("it was parsed before");
    let json = documents[0].to_string();
    assert_eq!(Config::parse(&json, folder, None), Ok(config), "{json}");
});
