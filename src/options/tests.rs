//! Tables from argv (and a file's text) to what comes out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::help::Topic;
use super::setting::Draft;
use super::table::settings;
use super::*;

fn parse_with(args: &[&str], file: &str) -> Result<Parsed, Error> {
    parse(args.iter().map(|&a| a.to_owned()), |path| {
        if path == Path::new("/config") {
            Ok(file.to_owned())
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    })
}

fn run(args: &[&str]) -> (Options, Vec<String>) {
    run_with(args, "")
}

#[track_caller]
fn run_with(args: &[&str], file: &str) -> (Options, Vec<String>) {
    let parsed = parse_with(args, file).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    match parsed.command {
        Command::Run(options) => (*options, parsed.warnings),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[track_caller]
fn problems(args: &[&str], file: &str) -> Vec<String> {
    match parse_with(args, file) {
        Err(Error::Usage(problems) | Error::Config { problems, .. }) => problems,
        Ok(parsed) => panic!("{args:?}: {:?}", parsed.command),
    }
}

/// A configuration file with these fields (JSON, without the braces).
fn config(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(
        r#"{{"apiVersion":"kubeproxy.config.k8s.io/v1alpha1","kind":"KubeProxyConfiguration"{comma}{fields}}}"#
    )
}

#[test]
fn defaults_are_upstreams() {
    let (options, warnings) = run(&[]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(options.healthz_bind_address, "0.0.0.0:10256".parse().ok());
    assert_eq!(options.metrics_bind_address, "127.0.0.1:10249".parse().ok());
    assert_eq!(options.bind_address, None);
    assert_eq!(options.sync_period, Duration::from_secs(30));
    assert_eq!(options.coalesce, None);
    assert_eq!(options.oom_score_adj, -999);
    assert_eq!(options.udp_idle_timeout, Duration::from_secs(60));
    assert_eq!(options.portal, PortalKind::Auto);
    assert_eq!(options.detect_local, DetectLocal::ClusterCidr);
    assert_eq!(options.drain_timeout, Duration::ZERO);
    assert!(options.localhost_nodeports && options.metrics_per_service);
    assert!(options.nodeport_addresses.is_empty() && options.cluster_cidr.is_empty());
    assert_eq!(
        options.control_socket,
        Some("/run/portico/control.sock".into())
    );
    assert_eq!(
        (
            options.worker_count(2),
            options.worker_count(64),
            options.worker_count(0)
        ),
        (2, 4, 1)
    );
}

#[test]
fn addresses_are_completed_as_upstream_does() {
    let table: [(&[&str], Option<&str>, Option<&str>); 9] = [
        (
            &["--bind-address=::"],
            Some("[::]:10256"),
            Some("[::1]:10249"),
        ),
        (
            &["--bind-address=fd00::1"],
            Some("[::]:10256"),
            Some("[::1]:10249"),
        ),
        (
            &["--healthz-bind-address=10.0.0.1"],
            Some("10.0.0.1:10256"),
            Some("127.0.0.1:10249"),
        ),
        (
            &["--healthz-bind-address=fd00::1"],
            Some("[fd00::1]:10256"),
            Some("127.0.0.1:10249"),
        ),
        (
            &["--healthz-bind-address=1.2.3.4:5"],
            Some("1.2.3.4:5"),
            Some("127.0.0.1:10249"),
        ),
        (
            &["--healthz-bind-address=", "--metrics-bind-address="],
            None,
            None,
        ),
        (&["--healthz-port=0", "--metrics-port=0"], None, None),
        (
            &["--healthz-port=7", "--metrics-port=8"],
            Some("0.0.0.0:7"),
            Some("127.0.0.1:8"),
        ),
        (
            &["--healthz-port=7", "--healthz-bind-address=1.2.3.4:5"],
            Some("1.2.3.4:5"),
            Some("127.0.0.1:10249"),
        ),
    ];
    for (args, healthz, metrics) in table {
        let (options, _) = run(args);
        assert_eq!(
            options.healthz_bind_address,
            healthz.map(|a| a.parse().unwrap()),
            "{args:?}"
        );
        assert_eq!(
            options.metrics_bind_address,
            metrics.map(|a| a.parse().unwrap()),
            "{args:?}"
        );
    }
}

#[test]
fn all_mistakes_at_once_under_the_names_that_were_used() {
    let found = problems(
        &[
            "--oom-score-adj=5000",
            "--bind-address=here",
            "--portal=door",
            "--iptables-sync-period=0s",
        ],
        "",
    );
    assert_eq!(
        found,
        [
            "--iptables-sync-period: 0s: must be greater than 0",
            "--iptables-min-sync-period: 1s: must not be above the sync period",
            "--oom-score-adj: 5000: must be within -1000 and 1000",
            "--portal: door: expected auto, netns, host, none",
            "--bind-address: here: expected an IP address",
        ]
    );
    let fields = r#""oomScoreAdj": -2000, "clusterCIDR": "10.0.0.0/8,11.0.0.0/8", "healthzBindAddress": "here:1""#;
    assert_eq!(
        problems(&["--config=/config"], &config(fields)),
        [
            "oomScoreAdj: -2000: must be within -1000 and 1000",
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8: expected a CIDR, or one of each IP family",
            "healthzBindAddress: here:1: expected IP:PORT",
        ]
    );
}

#[test]
fn flags_that_cannot_be_right() {
    for (arg, expected) in [
        ("--bind-address=", "expected an IP address"),
        ("--cluster-cidr=10.0.0.0", "expected a CIDR"),
        (
            "--cluster-cidr=10.0.0.0/8,fd00::/8,fd01::/8",
            "expected a CIDR",
        ),
        ("--config-sync-period=0", "greater than 0"),
        ("--conntrack-min=-1", "must not be negative"),
        ("--detect-local-mode=Guess", "expected ClusterCIDR"),
        ("--detect-local-mode=BridgeInterface", "must not be empty"),
        ("--drain-timeout=-1s", "must not be negative"),
        ("--drain-timeout=30", "expected a duration"),
        ("--feature-gates=A", "expected NAME=true|false"),
        ("--feature-gates=A=maybe", "expected NAME=true|false"),
        ("--feature-gates==true", "expected NAME=true|false"),
        ("--healthz-bind-address=:10256", "expected IP:PORT"),
        ("--healthz-bind-address=1.2.3.4:0", "expected IP:PORT"),
        (
            "--hostname-override=  ",
            "empty hostname-override is invalid",
        ),
        ("--iptables-masquerade-bit=32", "within 0 and 31"),
        ("--iptables-min-sync-period=31s", "above the sync period"),
        ("--iptables-min-sync-period=-1s", "must not be negative"),
        ("--ipvs-tcp-timeout=-1s", "must not be negative"),
        ("--kube-api-burst=-1", "must not be negative"),
        ("--logging-format=xml", "expected text, json"),
        ("--masquerade-all=maybe", "expected true or false"),
        ("--metrics-bind-address=localhost:1", "expected IP:PORT"),
        ("--nodeport-addresses=10.0.0.1", "expected a CIDR, primary"),
        ("--proxy-mode=kernelspace", "it is for Windows"),
        ("--proxy-mode=magic", "expected userspace"),
        ("--proxy-port-range=9-1", "expected A-B"),
        ("--source-vip=1.2.3.4", "it is for Windows"),
        ("--alsologtostderr=maybe", "expected true or false"),
        ("--vmodule=a", "expected PATTERN=N"),
        ("--vmodule=a=1,=2", "expected PATTERN=N"),
        ("--workers=65", "within 1 and 64"),
        ("--from=10.0.0.1", "only explain takes --from"),
        ("serve", "unknown command \"serve\"; see portico --help"),
        ("chek", "did you mean portico check?"),
        ("services.yaml", "did you mean --manifests services.yaml?"),
        ("./services", "did you mean --manifests ./services?"),
        ("--no-such", "unknown flag --no-such; see portico --help"),
        ("--manifest=x", "did you mean --manifests?"),
        ("--kube-config=x", "did you mean --kubeconfig?"),
    ] {
        let found = problems(&[arg], "").join("\n");
        assert!(found.contains(expected), "{arg}: {found}");
    }
}

#[test]
fn kube_proxys_flags_without_effect_bring_one_warning_each_or_none() {
    let table = [
        ("--feature-gates=NoSuchGate=true,B=false", 2),
        ("--feature-gates=AllowServiceExternalIPs=false", 0),
        ("--feature-gates=MultiCIDRServiceAllocator=false", 1),
        ("--kube-api-content-type=application/json", 0),
        ("--kube-api-content-type=text/plain", 1),
        ("--kube-api-qps=50.5", 0),
        ("--kube-api-burst=100", 0),
        ("--profiling", 1),
        ("--profiling=false", 0),
        ("--proxy-mode=ipvs", 1),
        ("--proxy-mode=userspace", 0),
        ("--iptables-masquerade-bit=14", 0),
        ("--iptables-masquerade-bit=3", 1),
        ("--masquerade-all", 0),
        ("--ipvs-scheduler=lc", 1),
        ("--ipvs-exclude-cidrs=10.0.0.0/8", 1),
        ("--conntrack-max-per-core=0", 1),
        ("--conntrack-max-per-core=32768", 0),
        ("--conntrack-tcp-timeout-established=24h", 0),
        ("--config-sync-period=1h", 0),
        ("--proxy-port-range=0-0", 1),
        ("--logtostderr=true", 0),
        ("--logtostderr", 0),
        ("--logtostderr=false", 1),
        ("--log-dir=/var/log", 1),
        ("--log_dir=/var/log", 1),
        ("--machine-id-file=/etc/machine-id", 0),
        ("--vmodule=a=1", 0),
        ("--log-flush-frequency=1s", 0),
    ];
    for (arg, count) in table {
        let (_, warnings) = run(&[arg]);
        assert_eq!(warnings.len(), count, "{arg}: {warnings:?}");
    }
    let (options, warnings) = run(&[
        "--detect-local-mode=InterfaceNamePrefix",
        "--pod-interface-name-prefix=cali",
    ]);
    assert_eq!(
        (options.detect_local, warnings.len()),
        (DetectLocal::Off, 2)
    );
}

#[test]
fn vmodule_is_written_as_the_file_has_it() {
    let (options, _) = run(&["--vmodule=a=1, b*=2,"]);
    let list = serde_json::json!([
        {"filePattern": "a", "verbosity": 1},
        {"filePattern": "b*", "verbosity": 2},
    ]);
    assert_eq!(options.effective["logging"]["vmodule"], list);
    let flag = ("vmodule".to_owned(), "a=1,b*=2".to_owned());
    assert!(options.flags.contains(&flag), "{:?}", options.flags);
    let (again, _) = run_with(&["--config=/config"], &file::to_yaml(&options.effective));
    assert_eq!(again.effective, options.effective);
}

#[test]
fn beside_config_only_some_flags_hold() {
    let fields = r#""hostnameOverride": "filed", "mode": "", "clientConnection": {"kubeconfig": "/k"}, "logging": {"verbosity": 1}"#;
    let args = [
        "--config=/config",
        "--hostname-override= Given ",
        "--master=http://m",
        "--insecure-token-over-http",
        "--portal=none",
        "--kubeconfig=/other",
        "--proxy-mode=ipvs",
        "--healthz-port=0",
        "-v=3",
    ];
    let (options, warnings) = run_with(&args, &config(fields));
    assert_eq!(options.hostname_override.as_deref(), Some("given"));
    assert_eq!(options.master.as_deref(), Some("http://m"));
    assert!(options.insecure_token_over_http);
    assert_eq!(options.portal, PortalKind::None);
    assert_eq!(options.kubeconfig, Some("/k".into()));
    assert_eq!(options.logging.verbosity, 3);
    assert_eq!(options.healthz_bind_address, "0.0.0.0:10256".parse().ok());
    assert_eq!(options.config_file, Some("/config".into()));
    assert_eq!(
        warnings,
        ["ignored because --config is given: --kubeconfig, --proxy-mode, --healthz-port"]
    );
}

#[test]
fn in_a_file_zero_and_null_and_empty_mean_unset_where_upstream_says_so() {
    let fields = r#""bindAddress": "", "healthzBindAddress": "", "metricsBindAddress": null, "oomScoreAdj": 0,
        "iptables": {"syncPeriod": "0s", "minSyncPeriod": "0s", "masqueradeBit": null, "localhostNodePorts": null},
        "conntrack": {"maxPerCore": null, "min": null}, "nodePortAddresses": null, "udpIdleTimeout": "0s",
        "configSyncPeriod": "0s", "clientConnection": {"qps": 0, "burst": 0, "contentType": ""},
        "ipvs": null, "winkernel": {"enableDSR": false, "networkName": "", "sourceVip": ""}, "featureGates": null,
        "logging": {"flushFrequency": 0, "verbosity": 0, "options": {"json": {"infoBufferSize": "0"}}}"#;
    let (options, warnings) = run_with(&["--config=/config"], &config(fields));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(options.sync_period, Duration::from_secs(30));
    assert_eq!(options.coalesce, None);
    assert_eq!(options.oom_score_adj, 0, "a pointer upstream: zero is zero");
    assert!(options.localhost_nodeports);
    assert_eq!(options.metrics_bind_address, "127.0.0.1:10249".parse().ok());
    assert_eq!(options.effective["clientConnection"]["qps"], 5);
    assert_eq!(options.effective["logging"]["flushFrequency"], "5s");
}

#[test]
fn a_file_with_unknown_fields_is_decoded_leniently() {
    let fields = r#""iptables": {"masqueradeBit": 3, "colour": 1}, "new": {"a": 1}, "clusterCIDR": "10.1.2.3/16""#;
    let (options, warnings) = run_with(&["--config=/config"], &config(fields));
    assert_eq!(options.cluster_cidr, ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(
        warnings,
        [
            "/config: using lenient decoding as strict decoding failed: unknown field iptables.colour, unknown field new",
            "iptables.masqueradeBit has no effect: portico writes no packet filter rules",
        ]
    );
}

#[test]
fn a_field_that_appears_twice_has_its_last_value() {
    let text = "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nmode: ipvs\nmode: ''\n";
    let (options, warnings) = run_with(&["--config=/config"], text);
    assert_eq!(options.mode, Mode::Userspace);
    assert_eq!(
        warnings,
        [
            "/config: using lenient decoding as strict decoding failed: line 4: the key \"mode\" appears twice"
        ]
    );
}

#[test]
fn a_file_that_is_wrong_says_where() {
    for (text, expected) in [
        (
            config(r#""oomScoreAdj": "high""#),
            "oomScoreAdj: expected a whole number, found \"high\"",
        ),
        (
            config(r#""iptables": 3"#),
            "iptables: expected a mapping, found 3",
        ),
        (
            config(r#""iptables": {"syncPeriod": 30}"#),
            "iptables.syncPeriod: expected a duration",
        ),
        (
            config(r#""nodePortAddresses": "10.0.0.0/8""#),
            "nodePortAddresses: expected a list of strings",
        ),
        (
            config(r#""mode": "kernelspace""#),
            "mode: kernelspace: it is for Windows",
        ),
        (
            config("").replace("v1alpha1", "v1"),
            "apiVersion: expected kubeproxy.config.k8s.io/v1alpha1",
        ),
        (
            config("").replace("KubeProxyC", "KubeletC"),
            "kind: expected KubeProxyConfiguration",
        ),
        ("[]".to_owned(), "found no mapping"),
        (String::new(), ""),
    ] {
        let found = problems(&["--config=/config"], &text).join("\n");
        assert!(found.contains(expected), "{text}: {found}");
    }
    let Err(missing) = parse_with(&["--config=/missing"], "") else {
        panic!("read it")
    };
    assert_eq!(missing.exit_code(), 1);
    assert!(missing.to_string().starts_with("/missing: "), "{missing}");
}

#[test]
fn periods_follow_the_mode() {
    let sections = r#""iptables": {"syncPeriod": "40s"}, "ipvs": {"syncPeriod": "50s"}, "nftables": {"syncPeriod": "1m0s", "minSyncPeriod": "5s"}"#;
    for (mode, seconds, coalesce) in [
        ("", 40, None),
        ("ipvs", 50, None),
        ("nftables", 60, Some(5)),
    ] {
        let text = config(&format!(r#""mode": "{mode}", {sections}"#));
        let (options, _) = run_with(&["--config=/config"], &text);
        assert_eq!(options.sync_period, Duration::from_secs(seconds), "{mode}");
        assert_eq!(
            options.coalesce,
            coalesce.map(Duration::from_secs),
            "{mode}"
        );
    }
    let (options, _) = run(&["--proxy-mode=nftables", "--iptables-sync-period=20s"]);
    assert_eq!(options.sync_period, Duration::from_secs(20));
    assert_eq!(options.nodeport_addresses, ["primary"]);
}

#[test]
fn the_old_udp_timeout_counts_unless_it_is_the_old_default() {
    for (args, seconds) in [
        (["--udp-timeout=250ms"], 60),
        (["--udp-timeout=0"], 60),
        (["--udp-timeout=5m"], 300),
        (["--udp-idle-timeout=10s"], 10),
    ] {
        assert_eq!(
            run(&args).0.udp_idle_timeout,
            Duration::from_secs(seconds),
            "{args:?}"
        );
    }
}

#[test]
fn lists_and_repeats() {
    let (options, _) = run(&[
        "--manifests=a",
        "--manifests",
        "b,c",
        "--nodeport-addresses=10.0.0.0/8, fd00::/8",
        "--nodeport-addresses=localhost",
    ]);
    assert_eq!(
        options.manifests,
        [PathBuf::from("a"), PathBuf::from("b,c")]
    );
    assert_eq!(
        options.nodeport_addresses,
        ["10.0.0.0/8", "fd00::/8", "localhost"]
    );
}

#[test]
fn the_node_name() {
    let (mut options, _) = run(&[]);
    assert_eq!(options.node_name(" Node-1\n").as_deref(), Some("node-1"));
    assert_eq!(options.node_name(" "), None);
    options.hostname_override = Some("other".to_owned());
    assert_eq!(options.node_name("node-1").as_deref(), Some("other"));
}

#[test]
fn commands() {
    let kind = |args: &[&str]| match parse_with(args, &config("")).map(|p| p.command) {
        Ok(Command::Run(_)) => "run",
        Ok(Command::Check(_)) => "check",
        Ok(Command::Explain(_)) => "explain",
        Ok(Command::Cleanup(_)) => "cleanup",
        Ok(Command::WriteConfig { .. }) => "write",
        Ok(Command::InitOnly(_)) => "init",
        Ok(Command::Print(_)) => "print",
        Err(error) => panic!("{args:?}: {error}"),
    };
    let table: [(&[&str], &str); 14] = [
        (&[], "run"),
        (&["check", "--portal=none"], "check"),
        (&["--portal", "host", "check"], "check"),
        (
            &["explain", "--output", "json", "a/b", "--manifests=x"],
            "explain",
        ),
        (&["explain", "a/b", "--cluster-cidr=10.0.0.0/8"], "explain"),
        (&["--cleanup"], "cleanup"),
        (&["--cleanup", "--config=/missing"], "cleanup"),
        (&["--cleanup=false"], "run"),
        (&["--write-config-to=/x", "--config=/config"], "write"),
        (&["--init-only"], "init"),
        (&["--version"], "print"),
        (&["--version=false"], "run"),
        (&["explain", "--help", "--no-such"], "print"),
        (&["-h"], "print"),
    ];
    for (args, expected) in table {
        assert_eq!(kind(args), expected, "{args:?}");
    }
    for args in [
        &["explain", "--portal=none"][..],
        &["check", "x"],
        &["explain", "--output=xml"],
    ] {
        assert_eq!(
            parse_with(args, "").expect_err("a mistake").exit_code(),
            2,
            "{args:?}"
        );
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    let fields = r#""iptables": {"masqueradeBit": 3}, "nodePortAddresses": ["10.0.0.0/8", "localhost"], "featureGates": {"A": true},
        "hostnameOverride": "yes", "oomScoreAdj": -5, "clientConnection": {"kubeconfig": "/var/lib/kube proxy"}"#;
    let (before, _) = run_with(&["--config=/config"], &config(fields));
    let (after, _) = run_with(&["--config=/config"], &before.effective.to_string());
    assert_eq!(before.effective, after.effective);
    let yaml = file::to_yaml(&before.effective);
    let (again, warnings) = run_with(&["--config=/config"], &yaml);
    assert_eq!(again.effective, before.effective);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for line in [
        "kind: KubeProxyConfiguration\n",
        "oomScoreAdj: -5\n",
        "  masqueradeBit: 3\n",
        "nodePortAddresses:\n- \"10.0.0.0/8\"\n- localhost\n",
        "hostnameOverride: \"yes\"\n",
        "  kubeconfig: \"/var/lib/kube proxy\"\n",
        "healthzBindAddress: \"0.0.0.0:10256\"\n",
        "  syncPeriod: \"30s\"\n",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
}

#[test]
fn the_table_is_consistent() {
    let mut flags: Vec<&str> = settings()
        .map(|s| s.flag)
        .filter(|f| !f.is_empty())
        .collect();
    flags.extend(accepted::RETIRED.iter().map(|r| r.name));
    let mut paths: Vec<&str> = settings()
        .map(|s| s.path)
        .filter(|p| !p.is_empty())
        .collect();
    for names in [&mut flags, &mut paths] {
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name twice");
    }
    let mut draft = Draft::default();
    for setting in settings() {
        let documented = setting.doc.is_empty() || !setting.flag.is_empty();
        assert!(documented, "{} has no flag to document", setting.path);
        let boolean = matches!((setting.slot)(&mut draft), slot::Slot::Bool(_));
        let flag = !setting.flag.is_empty() && setting.flag != "version";
        assert!(
            !flag || boolean == setting.value.is_empty(),
            "{}",
            setting.flag
        );
    }
}

#[test]
fn help_fits_a_terminal_and_names_every_flag() {
    let text = Topic::Run.help();
    for setting in settings().filter(|s| !s.flag.is_empty()) {
        let flag = format!("--{}", setting.flag);
        assert!(
            text.split([' ', '\n', ',']).any(|word| word == flag),
            "{flag}"
        );
    }
    for line in text.lines().chain(Topic::Explain.help().lines()) {
        assert!(
            line.len() <= 120 && line == line.trim_end(),
            "{}: {line}",
            line.len()
        );
    }
    assert!(
        Topic::Explain.help().contains("--from") && !Topic::Explain.help().contains("--workers")
    );
    assert!(Topic::Check.help().contains("--portal") && !Topic::Check.help().contains("--from"));
}

#[test]
fn no_argument_and_no_file_can_make_it_panic() {
    let names: Vec<String> = settings()
        .map(|s| format!("--{}", s.flag))
        .chain(["-v", "-h", "--", "check", "explain", "a/b", "--no-such"].map(str::to_owned))
        .collect();
    let values = [
        "",
        "=",
        "=0",
        "=-1",
        "=true",
        "=99999999999999999999",
        "=1e400",
        "=\u{3bc}s",
        "=,",
        "=a=b",
        "=::",
        "=/config",
        "=9223372036854775807h",
        "=1.9999999999999999999999h",
        "=0-",
        "=+",
        "=65535+65535",
        "=[::1]:0",
    ];
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    for _ in 0..2_000 {
        let args: Vec<String> = (0..1 + next(4))
            .map(|_| format!("{}{}", names[next(names.len())], values[next(values.len())]))
            .collect();
        let path = settings()
            .map(|s| s.path)
            .nth(next(settings().count()))
            .unwrap_or("");
        let leaf = [
            "null",
            "0",
            "-1",
            "1e300",
            "\"\"",
            "\"x\"",
            "[]",
            "[1]",
            "{}",
            "{\"a\": 1}",
            "true",
        ][next(11)];
        let file = path.split('.').rev().fold(leaf.to_owned(), |inner, name| {
            format!("{{\"{name}\": {inner}}}")
        });
        let file = file.replacen('{', &config("").replace('}', ","), 1);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Whatever comes of it, an answer comes.
        let _ = parse_with(&args, &file);
        let _ = parse_with(&["--config=/config"], &file);
    }
}
