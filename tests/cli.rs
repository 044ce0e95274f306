//! The command line as a user meets it: files that others wrote, the man page, exit statuses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portico::options::{self, Command, Options};
use portico::wire::yaml;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    let path = repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Starts as kubeadm's DaemonSet does: `--config=... --hostname-override=$(NODE_NAME)`.
fn from_config_map(file: &str) -> (Options, Vec<String>) {
    let documents = yaml::documents(&text(file)).expect(file);
    let config = documents[0]["data"]["config.conf"]
        .as_str()
        .expect("data.config.conf");
    let args = [
        "--config=/var/lib/kube-proxy/config.conf",
        "--hostname-override=Node-1",
    ];
    let parsed = options::parse(args.map(str::to_owned), |_| Ok(config.to_owned()));
    let parsed = parsed.unwrap_or_else(|error| panic!("{file}: {error}"));
    match parsed.command {
        Command::Run(options) => (*options, parsed.warnings),
        other => panic!("{file}: {other:?}"),
    }
}

#[test]
fn kubeadms_config_maps_start_portico_unchanged() {
    for (file, cidrs) in [
        ("tests/configs/kubeadm-1.20.yaml", 1),
        ("tests/configs/kubeadm-1.30.yaml", 1),
        ("tests/configs/kubeadm-1.36.yaml", 2),
    ] {
        let (options, warnings) = from_config_map(file);
        assert_eq!(warnings, Vec::<String>::new(), "{file}");
        assert_eq!(
            options.kubeconfig,
            Some("/var/lib/kube-proxy/kubeconfig.conf".into())
        );
        assert_eq!(options.node_name("host").as_deref(), Some("node-1"));
        assert_eq!(options.cluster_cidr.len(), cidrs, "{file}");
        assert_eq!(options.healthz_bind_address, "0.0.0.0:10256".parse().ok());
        assert_eq!(options.metrics_bind_address, "127.0.0.1:10249".parse().ok());
        assert_eq!(options.sync_period, Duration::from_secs(30), "{file}");
        assert_eq!(options.oom_score_adj, -999, "{file}");
        assert!(options.localhost_nodeports && options.nodeport_addresses.is_empty());
    }
}
