//! The command line as a user meets it: files that others wrote, the man page, exit statuses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portico::options::{self, Command, Options};
use portico::wire::yaml;

use crate::util::left_out::left_out;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn text(path: &str) -> String {
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

/// Every `--flag` in a text.
fn long_flags(text: &str, separators: &[char]) -> BTreeSet<String> {
    text.split(separators)
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|name| !name.is_empty())
        .map(|name| name.split('=').next().unwrap_or(name).to_owned())
        .collect()
}

pub(crate) fn help(args: &[&str]) -> String {
    let parsed = options::parse(args.iter().map(|&a| a.to_owned()), |_| unreachable!());
    match parsed.expect("help").command {
        Command::Print(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flag_is_in_the_man_page_and_back() {
    let man = text("man/portico.8");
    // `.It Fl -name Ar value` documents a flag, and so does `.Fl -name` in the list of those without effect.
    let items: String = man
        .lines()
        .filter(|line| line.starts_with(".It Fl ") || line.starts_with(".Fl -"))
        .map(|line| line.trim_start_matches('.').replace("Fl -", "--") + "\n")
        .collect();
    let in_man = long_flags(&items, &[' ', '\n', ',']);
    let in_help = long_flags(
        &help(&["--help"]),
        &[' ', '\n', ',', ';', ':', '(', ')', '\''],
    );
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| Vec::from_iter(a.difference(b).cloned());
    assert_eq!(
        only(&in_help, &in_man),
        Vec::<String>::new(),
        "missing in the man page"
    );
    assert_eq!(
        only(&in_man, &in_help),
        Vec::<String>::new(),
        "not in --help"
    );
    assert!(in_man.len() > 60, "{}", in_man.len());
}

#[test]
fn the_man_page_is_clean() {
    let lint = std::process::Command::new("mandoc")
        .args(["-T", "lint"])
        .arg(repository("man/portico.8"))
        .output();
    let lint = match lint {
        Ok(lint) => lint,
        Err(error) => return left_out(&format!("mandoc cannot run (Debian: mandoc): {error}")),
    };
    let found = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success() && found.is_empty(), "{found}");
}

/// Runs the program itself: its status, stdout, stderr.
fn portico(args: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portico"))
        .args(args)
        .output()
        .expect("portico runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn exit_statuses_and_streams() {
    let table: [(&[&str], i32, &str, &str); 12] = [
        (&["version"], 0, "portico ", ""),
        (&["help"], 0, "usage: portico", ""),
        (&["help", "explain"], 0, "usage: portico explain", ""),
        (&["explian"], 2, "", "did you mean portico explain?"),
        (&["web.yaml"], 2, "", "did you mean --manifests web.yaml?"),
        (&["--version"], 0, "portico ", ""),
        (&["--help"], 0, "usage: portico", ""),
        (&["explain", "--help"], 0, "usage: portico explain", ""),
        (&["--no-such"], 2, "", "unknown flag --no-such"),
        (&["serve"], 2, "", "unknown command"),
        (&["explain", "--from=x", "--to=y"], 2, "", "--from"),
        (&["--config=/no/such/file"], 1, "", "/no/such/file"),
    ];
    for (args, status, stdout, stderr) in table {
        let found = portico(args);
        assert_eq!(found.0, Some(status), "{args:?}: {found:?}");
        assert!(found.1.contains(stdout), "{args:?}: {found:?}");
        assert!(found.2.contains(stderr), "{args:?}: {found:?}");
        assert_eq!(found.1.is_empty(), stdout.is_empty(), "{args:?}: {found:?}");
        assert_eq!(found.2.is_empty(), stderr.is_empty(), "{args:?}: {found:?}");
    }
}

#[test]
fn the_unit_is_started_for_ever_but_for_a_wrong_flag() {
    let unit = text("scripts/portico.service");
    let usage = portico(&["--no-such"]).0.expect("it exits");
    for line in [
        "StartLimitIntervalSec=0".to_owned(),
        "Restart=always".to_owned(),
        format!("RestartPreventExitStatus={usage}"),
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    // A kubeconfig that comes later, or a file that is mended, is worth another start.
    for args in [["--kubeconfig=/no/such/file"], ["--config=/no/such/file"]] {
        assert_eq!(portico(&args).0, Some(1), "{args:?}");
    }
}

#[test]
fn checks_exit_status_is_what_its_lines_say() {
    for portal in ["auto", "netns", "host", "none"] {
        let found = portico(&["check", "--portal", portal]);
        let (status, lines, _) = &found;
        let missing = lines.lines().filter(|line| line.starts_with("missing "));
        let would_not_work = lines.contains("would not work");
        let expect = match missing.count() {
            0 => 0,
            _ if would_not_work => 1,
            _ => 3,
        };
        assert_eq!(*status, Some(expect), "--portal {portal}: {found:?}");
    }
}

#[test]
fn the_configuration_that_is_written_starts_portico_again() {
    let file = std::env::temp_dir().join(format!("portico-cli-{}.yaml", std::process::id()));
    let path = file.to_str().expect("a plain path");
    let write = format!("--write-config-to={path}");
    let found = portico(&[
        &write,
        "--cluster-cidr=10.0.0.0/8",
        "--healthz-bind-address=10.0.0.1",
    ]);
    assert_eq!(found.0, Some(0), "{found:?}");
    let config = format!("--config={path}");
    let found = portico(&[&config, "--init-only"]);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    assert_eq!(found.0, Some(0), "{found:?}");
    assert!(text.contains("clusterCIDR: \"10.0.0.0/8\""), "{text}");
    assert!(
        text.contains("healthzBindAddress: \"10.0.0.1:10256\""),
        "{text}"
    );
}
