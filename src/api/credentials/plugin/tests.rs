use std::path::Path;

use super::*;

/// A kubeconfig whose user has this shell script for a plugin.
fn config(script: &str, more: &str) -> Config {
    let script = json!(script);
    let text = format!(
        "current-context: x\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://a:1', certificate-authority-data: Y2E=, tls-server-name: kube, \
         extensions: [{{name: client.authentication.k8s.io/exec, extension: {{k: v}}}}]}}}}]\n\
         users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, {script}]{more}}}}}}}]"
    );
    Config::parse(&text, Path::new("/"), None).expect("valid")
}

/// What the plugin gives, asked once.
fn get(script: &str, more: &str) -> Result<Given, String> {
    let config = config(script, more);
    let plugin = config.user.exec.as_ref().expect("a plugin");
    let given = Kept::default()
        .get(&config, plugin, Instant::now())
        .cloned();
    given.map_err(|error| error.to_string())
}

/// A script that prints this status.
fn answer(status: &str) -> String {
    format!(
        "echo '{{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\", \"status\": {status}}}'"
    )
}

#[test]
fn answers() {
    let given = get(&answer(r#"{"token": " abc "}"#), "").expect("a token");
    assert_eq!(given.token.as_deref(), Some("abc"));
    let both = answer(r#"{"clientCertificateData": "C", "clientKeyData": "K"}"#);
    let identity = get(&both, "").expect("a certificate").identity;
    let identity = identity.expect("a certificate");
    assert_eq!(
        (&identity.certificate[..], &identity.key[..]),
        (&b"C"[..], &b"K"[..])
    );
    for (script, expect) in [
        (answer("{}"), "it gives neither a token nor a certificate"),
        (answer("null"), "it gives neither a token nor a certificate"),
        (
            answer(r#"{"clientKeyData": "K"}"#),
            "it gives a certificate or a key, not both",
        ),
        (
            answer(r#"{"token": "a b"}"#),
            "its token has characters that no header can carry",
        ),
        (
            answer(r#"{"token": "a", "expirationTimestamp": "soon"}"#),
            "its expirationTimestamp is no time: soon",
        ),
        (
            "echo '{\"kind\": \"Pod\"}'".to_owned(),
            "its answer is no ExecCredential",
        ),
        (
            "echo '{\"kind\": \"ExecCredential\", \"apiVersion\": \"v7\"}'".to_owned(),
            "it answers in \"v7\", while the kubeconfig asks for client.authentication.k8s.io/v1",
        ),
        (
            "echo no; echo sorry >&2; exit 3".to_owned(),
            "exit status: 3: sorry",
        ),
        ("exit 1".to_owned(), "exit status: 1"),
        ("kill -9 $$".to_owned(), "signal: 9 (SIGKILL)"),
        (
            "yes | head -c 2000000".to_owned(),
            "its answer is longer than any credentials",
        ),
    ] {
        let given = get(&script, "").map(|given| given.token);
        assert_eq!(
            given,
            Err(format!("credential plugin sh: {expect}")),
            "{script}"
        );
    }
    let error = get("echo hello", "").map(|given| given.token);
    let error = error.expect_err("no JSON");
    assert!(error.contains("its answer is no JSON"), "{error}");
}

#[test]
fn what_is_asked() {
    let script = "test \"$A\" = b && printf '%s' \"$KUBERNETES_EXEC_INFO\" >&2; exit 1";
    let asked = |more: &str| {
        let error = get(script, more)
            .map(|given| given.token)
            .expect_err("status 1");
        let question = error.split_once("exit status: 1: ").expect("a question").1;
        serde_json::from_str::<Value>(question).expect("JSON")
    };
    let env = ", env: [{name: A, value: b}]";
    let (kind, version) = ("ExecCredential", "client.authentication.k8s.io/v1");
    let expect = json!({"kind": kind, "apiVersion": version, "spec": {"interactive": false}});
    assert_eq!(asked(env), expect);
    let cluster = json!({
        "server": "https://a:1", "tls-server-name": "kube", "certificate-authority-data": "Y2E=", "config": {"k": "v"}
    });
    let asked = asked(&format!("{env}, provideClusterInfo: true"));
    assert_eq!(asked["spec"]["cluster"], cluster);
}

#[test]
fn a_program_that_is_not_there() {
    let text = |more: &str| {
        let mut config = config("", more);
        let plugin = config.user.exec.as_mut().expect("a plugin");
        plugin.command = "/no/such/aws".into();
        let plugin = plugin.clone();
        let given = Kept::default()
            .get(&config, &plugin, Instant::now())
            .map(drop);
        given.expect_err("nothing").to_string()
    };
    assert_eq!(
        text(", installHint: \"Install aws:\\nsee there\""),
        "credential plugin /no/such/aws: there is no such program: Install aws:\\nsee there"
    );
    let error = text("");
    assert!(error.contains("there is no such program"), "{error}");
}

#[test]
fn what_a_plugin_gave_is_kept_until_it_expires_or_is_refused() {
    let folder = std::env::temp_dir().join(format!("portico-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let runs = || {
        std::fs::read_to_string(folder.join("runs"))
            .unwrap_or_default()
            .len()
    };
    let script = |expires: &str| {
        let count = format!("printf x >> {}/runs; ", folder.display());
        count
            + &answer(&format!(
                r#"{{"token": "a", "expirationTimestamp": "{expires}"}}"#
            ))
    };
    let lasting = config(&script("2999-01-01T00:00:00Z"), "");
    let plugin = lasting.user.exec.as_ref().expect("a plugin");
    let mut kept = Kept::default();
    let get = |kept: &mut Kept, config: &Config| {
        let given = kept.get(config, plugin, Instant::now());
        given.expect("a token").generation
    };
    assert_eq!(
        (get(&mut kept, &lasting), get(&mut kept, &lasting), runs()),
        (1, 1, 1)
    );
    kept.forget(1);
    assert_eq!((get(&mut kept, &lasting), runs()), (2, 2));
    // What another one has found out already.
    kept.forget(1);
    assert_eq!((get(&mut kept, &lasting), runs()), (2, 2));

    let over = config(&script("2001-01-01T00:00:00Z"), "");
    let plugin = over.user.exec.as_ref().expect("a plugin");
    let mut kept = Kept::default();
    for expect in [3, 4] {
        assert!(kept.get(&over, plugin, Instant::now()).is_ok());
        assert_eq!(runs(), expect);
    }

    // Who asked while it was failing is told the same.
    let failing = config(
        &format!("printf x >> {}/runs; exit 1", folder.display()),
        "",
    );
    let plugin = failing.user.exec.as_ref().expect("a plugin");
    let (mut kept, asked) = (Kept::default(), Instant::now());
    assert!(kept.get(&failing, plugin, asked).is_err());
    assert!(kept.get(&failing, plugin, asked).is_err());
    assert_eq!(runs(), 5);
    assert!(kept.get(&failing, plugin, Instant::now()).is_err());
    assert_eq!(runs(), 6);
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_program_that_hangs_is_ended_with_all_that_it_started() {
    let mut run = Run {
        answer: Vec::new(),
        words: Words::new("sh".to_owned()),
        until: Instant::now() + Duration::from_millis(200),
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", "sleep 600 & sleep 600"])
        .process_group(0);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let error = run.follow(child.expect("a shell")).expect_err("no end");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn others_that_hold_its_pipes_are_not_waited_for() {
    let began = Instant::now();
    let script = format!("sleep 5 & {}", answer(r#"{"token": "a"}"#));
    let given = get(&script, "").expect("a token");
    assert_eq!(given.token.as_deref(), Some("a"));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn its_words_are_passed_on_within_bounds() {
    let mut words = Words::new("aws".to_owned());
    for _ in 0..1000 {
        words.take(&[b'x'; 1000]);
    }
    assert!(words.begun.len() <= LONGEST_LINE + 1);
    words.take(b"\nlast\x1b[31m\r\n\n");
    assert_eq!((words.last.as_str(), words.lines), ("last\\u{1b}[31m", 2));
}
