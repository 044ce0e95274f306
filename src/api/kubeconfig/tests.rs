use super::*;

/// A kubeconfig with these lines for cluster and user.
fn kubeconfig(cluster: &str, user: &str) -> String {
    with_users(cluster, &format!("[{{name: u, user: {{{user}}}}}]"))
}

fn with_users(cluster: &str, users: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: other, cluster: {{server: http://no}}}}, {{name: c, cluster: {{{cluster}}}}}]\n\
         users: {users}\n"
    )
}

fn parse_text(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/kube"), None)
}

fn parse(cluster: &str, user: &str) -> Result<Config, String> {
    parse_text(&kubeconfig(cluster, user))
}

#[track_caller]
fn check_error(text: &str, expect: &str) {
    assert_eq!(parse_text(text), Err(expect.to_string()), "{text}");
}

#[test]
fn everything_that_is_supported() {
    let config = parse(
        "server: \"https://10.0.0.1:6443/\", certificate-authority: pki/ca.crt, tls-server-name: kubernetes, \
         proxy-url: \"http://proxy:3128\"",
        "client-certificate: /abs/client.crt, client-key-data: a2V5, tokenFile: token, as: kate, as-uid: '7', \
         as-groups: [dev, 'two words'], as-user-extra: {Team.Name: [a, b], \"x/y%\": [c]}",
    );
    let config = config.expect("valid");
    assert_eq!(config.server.as_str(), "https://10.0.0.1:6443");
    assert_eq!(
        config.ca,
        Some(Material::File("/etc/kube/pki/ca.crt".into()))
    );
    assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
    let proxy = config.proxy.expect("a proxy");
    assert_eq!(proxy.server.as_str(), "http://proxy:3128");
    let user = config.user;
    let client = (
        Material::File("/abs/client.crt".into()),
        Material::Data(b"key".to_vec()),
    );
    assert_eq!(user.client, Some(client));
    assert_eq!(user.token, Token::File("/etc/kube/token".into()));
    let headers: Vec<String> = user
        .impersonate
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let expect = [
        "impersonate-user: kate",
        "impersonate-uid: 7",
        "impersonate-group: dev",
        "impersonate-group: two words",
        "impersonate-extra-team.name: a",
        "impersonate-extra-team.name: b",
        "impersonate-extra-x%2Fy%25: c",
    ];
    assert_eq!(headers, expect);
    assert!(!config.insecure && config.remarks.is_empty());
}

#[test]
fn data_wins_over_files_and_a_token_file_over_a_token() {
    let config = parse(
        "server: https://a, certificate-authority: ca.crt, certificate-authority-data: Y2E=",
        "token: abc, tokenFile: /token",
    );
    let config = config.expect("valid");
    assert_eq!(config.ca, Some(Material::Data(b"ca".to_vec())));
    assert_eq!(config.user.token, Token::File("/token".into()));
    let config = parse("server: https://a", "token: ' abc '").expect("valid");
    assert_eq!(config.user.token, Token::Fixed("abc".to_string()));
}

#[test]
fn a_user_that_is_nobody_has_no_credentials() {
    let cluster = "server: http://a";
    let nobody = Ok(User::default());
    for users in [
        "[{name: u, user: null}]",
        "[{name: u, user: {}}]",
        "[{name: u}]",
        "[{name: u, user: {token: ''}}]",
        "[{name: u, user: {exec: null, token: null, username: ''}}]",
    ] {
        let config = parse_text(&with_users(cluster, users));
        let remarks = config.as_ref().map(|config| config.remarks.len());
        assert_eq!(remarks, Ok(0), "{users}");
        assert_eq!(config.map(|config| config.user), nobody, "{users}");
    }
    for users in ["[]", "null", "[{name: v, user: {token: abc}}]", "[5, null]"] {
        let config = parse_text(&with_users(cluster, users)).expect(users);
        assert_eq!(config.user, User::default());
        let remark = "users: there is none named \"u\": asking without credentials";
        assert_eq!(config.remarks, [remark]);
    }
    for user in ["", ", user: ''", ", user: null"] {
        let text = format!(
            "current-context: x\ncontexts: [{{name: x, context: {{cluster: c{user}}}}}]\n\
             clusters: [{{name: c, cluster: {{server: http://a}}}}]"
        );
        let config = parse_text(&text).expect(user);
        assert_eq!((config.user, config.remarks.len()), (User::default(), 0));
    }
}

#[test]
fn credential_plugins() {
    let user = "exec: {apiVersion: client.authentication.k8s.io/v1, command: bin/login, args: [a, '-b'], \
                env: [{name: ENV, value: v}], installHint: get it, interactiveMode: IfAvailable, provideClusterInfo: true}";
    let cluster = "server: https://a, extensions: [{name: other, extension: 1}, \
                   {name: client.authentication.k8s.io/exec, extension: {audience: me}}]";
    let plugin = parse(cluster, user).expect("valid").user.exec;
    let plugin = plugin.expect("a plugin");
    assert_eq!(plugin.command, Path::new("/etc/kube/bin/login"));
    assert_eq!(plugin.args, ["a", "-b"]);
    assert_eq!(plugin.env, [("ENV".to_owned(), "v".to_owned())]);
    assert_eq!(plugin.install_hint.as_deref(), Some("get it"));
    assert_eq!(
        plugin.cluster_config,
        Some(serde_json::json!({"audience": "me"}))
    );
    let exec = |more: &str| {
        let user = format!("exec: {{apiVersion: client.authentication.k8s.io/v1beta1{more}}}");
        let config = parse("server: https://a", &user);
        config.map(|config| config.user.exec.map(|plugin| plugin.command))
    };
    // A name is looked up on the PATH.
    assert_eq!(exec(", command: aws"), Ok(Some("aws".into())));
    assert_eq!(exec(", command: /bin/aws"), Ok(Some("/bin/aws".into())));
    for (more, expect) in [
        ("", "command: missing"),
        (
            ", command: aws, interactiveMode: Always",
            "interactiveMode: Always: there is nobody to answer, since portico runs without a terminal",
        ),
        (
            ", command: aws, interactiveMode: Sometimes",
            "interactiveMode: \"Sometimes\" is none of Never, IfAvailable and Always",
        ),
        (
            ", command: aws, env: [{value: v}]",
            "env: expected entries with a name and a value",
        ),
        (", command: aws, args: [1]", "args: expected strings"),
        (", command: aws, args: x", "args: expected a list"),
    ] {
        assert_eq!(exec(more), Err(format!("users[u].user.exec.{expect}")));
    }
    let error = parse("server: https://a", "exec: {apiVersion: v7, command: aws}");
    let expect = "users[u].user.exec.apiVersion: \"v7\" is not known; client.authentication.k8s.io/v1 and \
                  client.authentication.k8s.io/v1beta1 are";
    assert_eq!(error, Err(expect.to_owned()));
}

#[test]
fn json_is_a_kubeconfig_too() {
    let text = r#"{"current-context":"x","contexts":[{"name":"x","context":{"cluster":"c"}}],
        "clusters":[{"name":"c","cluster":{"server":"https://[fd00::1]:6443/k8s/","insecure-skip-tls-verify":true}}]}"#;
    let config = parse_text(text).expect("valid");
    assert_eq!(config.server.as_str(), "https://[fd00::1]:6443/k8s");
    assert!(config.insecure);
}

#[test]
fn the_scheme_follows_tls_and_master_wins() {
    let server = |cluster: &str, master| {
        let text = kubeconfig(cluster, "");
        let config = Config::parse(&text, Path::new("/"), master);
        config.map(|config| config.server.to_string())
    };
    let expect = |url: &str| Ok(url.to_string());
    assert_eq!(server("server: \"h:1\"", None), expect("http://h:1"));
    let insecure = "server: \"h:1\", insecure-skip-tls-verify: true";
    assert_eq!(server(insecure, None), expect("https://h:1"));
    assert_eq!(server(insecure, Some("m:2")), expect("https://m:2"));
    assert_eq!(server("", Some("http://m:2/")), expect("http://m:2"));
    let error = "--master: \"http:///\" has no host".to_string();
    assert_eq!(server("", Some("http:///")), Err(error));
    let error = "clusters[c].cluster.server: \"https://user:pw@h\" has more than scheme, host, port and path";
    let url = "server: \"https://user:pw@h\"";
    assert_eq!(server(url, None), Err(error.to_string()));
}

#[test]
fn with_a_master_nothing_of_a_cluster_is_needed() {
    for text in [
        "{kind: Config}",
        "current-context: ''",
        "current-context: x\ncontexts: [{name: x, context: {user: u}}]",
        "current-context: x\ncontexts: [{name: x}]",
        "current-context: x\ncontexts: [{name: x, context: {cluster: gone}}]",
    ] {
        let config = Config::parse(text, Path::new("/"), Some("http://m"));
        let config = config.expect(text);
        assert_eq!(
            (config.server.as_str(), config.user),
            ("http://m", User::default())
        );
    }
}

#[test]
fn what_could_be_overheard() {
    for (cluster, expect) in [
        ("server: \"http://127.0.0.1:1\"", false),
        ("server: \"http://localhost\"", false),
        ("server: \"https://10.0.0.1\"", false),
        ("server: \"http://10.0.0.1\"", true),
        (
            "server: \"https://10.0.0.1\", proxy-url: \"http://10.0.0.2\"",
            false,
        ),
        (
            "server: \"http://127.0.0.1\", proxy-url: \"http://10.0.0.2\"",
            true,
        ),
        (
            "server: \"http://10.0.0.1\", proxy-url: \"http://127.0.0.1\"",
            true,
        ),
    ] {
        let config = parse(cluster, "token: abc").expect(cluster);
        assert_eq!(config.is_overheard(), expect, "{cluster}");
    }
}

#[test]
fn errors_name_the_field() {
    check_error("", "empty");
    check_error("x", "not a kubeconfig");
    check_error("a: 1\n---\nb: 1", "more than one document");
    check_error(
        "kind: Config",
        "current-context is not set (contexts: there are none)",
    );
    check_error(
        "contexts: [{name: a}, {name: b}]",
        "current-context is not set (contexts: there are \"a\", \"b\")",
    );
    check_error(
        "current-context: x",
        "contexts: there is none named \"x\" (there are none)",
    );
    check_error(
        "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: d}]",
        "clusters: there is none named \"c\" (there are \"d\")",
    );
    check_error(
        "current-context: x\ncontexts: [{name: x, context: null}]",
        "contexts[x].context.cluster: missing",
    );
    check_error(&kubeconfig("", ""), "clusters[c].cluster.server: missing");
    check_error(
        &kubeconfig("server: 5", ""),
        "clusters[c].cluster.server: expected a string",
    );
    for (cluster, expect) in [
        (
            "server: a, proxy-url: \"socks5://p\"",
            "proxy-url: socks5 proxies are not supported; http and https ones are",
        ),
        (
            "server: \"https://::1:6443\"",
            "server: \"https://::1:6443\": an IPv6 address is written in brackets: [::1]:6443",
        ),
        (
            "server: a, insecure-skip-tls-verify: 1",
            "insecure-skip-tls-verify: expected true or false",
        ),
    ] {
        let expect = format!("clusters[c].cluster.{expect}");
        assert_eq!(parse(cluster, ""), Err(expect));
    }
    for (user, expect) in [
        (
            "auth-provider: {name: gcp}",
            "auth-provider: Kubernetes 1.26 has removed auth providers; use exec, a tokenFile or a client certificate",
        ),
        (
            "client-certificate: c.crt",
            "client-key: missing, while there is a client-certificate",
        ),
        (
            "client-key: c.key",
            "client-certificate: missing, while there is a client-key",
        ),
        (
            "token: \"a b\"",
            "token: has characters that no header can carry",
        ),
        (
            "token: a, username: b",
            "username: there is a token besides; only one of them can be sent",
        ),
        (
            "as-groups: [a]",
            "as: missing, while there is something else to impersonate",
        ),
        (
            "as: \"a\\nb: c\"",
            "as: has a value that no header can carry",
        ),
    ] {
        let expect = format!("users[u].user.{expect}");
        assert_eq!(parse("server: a", user), Err(expect));
    }
    let error = parse("server: a, certificate-authority-data: \"?\"", "").expect_err("base64");
    assert!(
        error.starts_with("clusters[c].cluster.certificate-authority-data: no base64:"),
        "{error}"
    );
}

/// A folder that is empty, and gone with the value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portico-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

#[test]
fn files_that_are_missing_are_named() {
    let folder = Folder::new("kubeconfig");
    let path = folder.0.join("kubeconfig");
    let text = kubeconfig("server: a, certificate-authority: ca.crt", "");
    fs::write(&path, text).expect("a file");
    let error = Config::from_file(&path, None).expect_err("no ca.crt");
    let expect = format!(
        "kubeconfig {}: {}: No such file or directory (os error 2)",
        path.display(),
        folder.0.join("ca.crt").display()
    );
    assert_eq!(error.to_string(), expect);
    fs::write(folder.0.join("ca.crt"), "").expect("a file");
    assert!(Config::from_file(&path, None).is_ok());
    fs::remove_file(&path).expect("removed");
    let error = Config::from_file(&path, None)
        .expect_err("gone")
        .to_string();
    assert!(
        error.ends_with("kubeconfig: No such file or directory (os error 2)"),
        "{error}"
    );
}

#[test]
fn byte_order_marks_and_utf_16() {
    let folder = Folder::new("utf");
    let path = folder.0.join("kubeconfig");
    let text = kubeconfig("server: 'http://ü'", "token: abc").replace("ü", "127.0.0.1");
    let wide = |to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = format!("\u{feff}{text}").replace('\n', "\r\n");
        text.encode_utf16().flat_map(to_bytes).collect()
    };
    for bytes in [
        text.clone().into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
    ] {
        fs::write(&path, bytes).expect("a file");
        let config = Config::from_file(&path, None).expect("valid");
        assert_eq!(config.user.token, Token::Fixed("abc".to_owned()));
    }
    fs::write(&path, b"a: \xff").expect("a file");
    let error = Config::from_file(&path, None)
        .expect_err("no text")
        .to_string();
    assert!(
        error.ends_with("neither UTF-8 nor UTF-16 with a byte order mark"),
        "{error}"
    );
}

#[test]
fn in_a_pod_the_service_account_is_used() {
    let folder = Folder::new("account");
    let folder = &folder.0;
    let env = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_string()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_string()),
        _ => None,
    };
    let error = Config::in_cluster_at(&env, folder).expect_err("no token");
    let error = error.to_string();
    assert!(error.starts_with("the service account's token"), "{error}");
    fs::write(folder.join("token"), "t").expect("a file");
    let config = Config::in_cluster_at(&env, folder).expect("a pod");
    assert_eq!(
        (config.server.as_str(), &config.ca, config.remarks.len()),
        ("https://[fd00::1]:443", &None, 1)
    );
    assert_eq!(config.user.token, Token::File(folder.join("token")));
    fs::write(folder.join("ca.crt"), "").expect("a file");
    let config = Config::in_cluster_at(&env, folder).expect("a pod");
    assert_eq!(config.ca, Some(Material::File(folder.join("ca.crt"))));
    let error = Config::in_cluster_at(&|_| None, folder).expect_err("no pod");
    let error = error.to_string();
    assert!(error.contains("set --kubeconfig or --master"), "{error}");
}
