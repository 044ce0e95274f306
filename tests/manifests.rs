//! Manifests as a source: files that change in every way that files change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use portico::config::sources::{FileSource, Sinks};
use portico::config::{Mux, ServiceConfig};
use portico::types::*;

use crate::util::{Folder, eventually};

const SOON: Duration = Duration::from_secs(10);
/// Longer than a change takes to be noticed; for what must not happen.
const A_WHILE: Duration = Duration::from_millis(400);

/// Services as a manifest: `web=1` is Service shop/web with clusterIP 10.96.0.1.
fn manifest(services: &[&str]) -> String {
    let one = |service: &&str| {
        let (name, version) = service.split_once('=').unwrap();
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: \"{name}\", namespace: shop}}\n\
             spec: {{clusterIP: 10.96.0.{version}, ports: [{{port: 80}}]}}\n"
        )
    };
    services.iter().map(one).collect()
}

/// The receiving end of a source: what it has said so far.
struct Heard {
    source: Option<FileSource>,
    services: Receiver<Update<Service>>,
    endpoints: Receiver<Update<EndpointSlice>>,
    nodes: Receiver<Update<Node>>,
    service_cidrs: Receiver<Update<ServiceCidr>>,
    /// Service -> version, once there has been a Set.
    state: Option<BTreeMap<String, u8>>,
    unavailable: usize,
    removed: Vec<String>,
    /// What was last said to be wrong.
    complaints: Vec<String>,
}

impl Heard {
    fn from(path: &Path) -> Self {
        let (services, endpoints, nodes, service_cidrs) =
            (unbounded(), unbounded(), unbounded(), unbounded());
        let sinks = Sinks {
            services: services.0,
            endpoints: endpoints.0,
            nodes: nodes.0,
            service_cidrs: service_cidrs.0,
        };
        Self {
            source: Some(FileSource::start(path, sinks).unwrap()),
            services: services.1,
            endpoints: endpoints.1,
            nodes: nodes.1,
            service_cidrs: service_cidrs.1,
            state: None,
            unavailable: 0,
            removed: Vec::new(),
            complaints: Vec::new(),
        }
    }

    fn listen(&mut self) {
        let version = |service: &Service| match service.cluster_ips.first() {
            Some(std::net::IpAddr::V4(ip)) => ip.octets()[3],
            other => panic!("{other:?}"),
        };
        let entry = |service: &Service| (service.name.name().to_owned(), version(service));
        for update in self.services.try_iter() {
            match update {
                Update::Set(all) => {
                    assert!(self.state.is_none(), "one Set is enough");
                    self.state = Some(all.iter().map(entry).collect());
                }
                Update::Add(service) => self
                    .state
                    .as_mut()
                    .expect("a Set comes first")
                    .extend([entry(&service)]),
                Update::Remove(key) => {
                    self.state
                        .as_mut()
                        .expect("a Set comes first")
                        .remove(key.name());
                    self.removed.push(key.name().to_owned());
                }
                Update::Unavailable => self.unavailable += 1,
                Update::Complaints(complaints) => {
                    self.complaints = complaints.iter().map(|it| it.to_string()).collect();
                }
                Update::Relist(_) => panic!("a file's objects come at once"),
            }
        }
    }

    fn now(&mut self) -> Option<Vec<String>> {
        self.listen();
        let state = self.state.as_ref()?;
        Some(
            state
                .iter()
                .map(|(name, version)| format!("{name}={version}"))
                .collect(),
        )
    }

    #[track_caller]
    fn soon(&mut self, expect: &[&str]) {
        let what = format!("{expect:?}");
        eventually(SOON, &what, || (self.now()? == expect).then_some(()));
    }

    /// Nothing is said for a while.
    #[track_caller]
    fn stays(&mut self, expect: Option<&[&str]>) {
        let deadline = Instant::now() + A_WHILE;
        while let Ok(update) = self.services.recv_deadline(deadline) {
            match update {
                Update::Unavailable => self.unavailable += 1,
                Update::Complaints(complaints) => {
                    self.complaints = complaints.iter().map(|it| it.to_string()).collect();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            self.now().as_deref(),
            expect
                .map(|all| all.iter().map(|s| s.to_string()).collect::<Vec<_>>())
                .as_deref()
        );
    }
}

/// Replaces a file as careful programs do.
fn rename_over(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn every_kind_in_every_form() {
    let folder = Folder::new();
    let path = folder.write(
        "all.yaml",
        r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
---
# nothing
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: dns}
  spec: {clusterIP: 10.96.0.2, ports: [{port: 53}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.0.0.1]}]
  ports: [{name: "", port: 8080}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: dns, namespace: default}
subsets: [{addresses: [{ip: 10.0.0.2}], ports: [{port: 53}]}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16]}
"#,
    );
    let mut heard = Heard::from(&path);
    heard.soon(&["dns=2", "web=1"]);
    fn set<T>(receiver: &Receiver<Update<T>>, name: impl Fn(&T) -> String) -> Vec<String> {
        match receiver.recv_timeout(SOON) {
            Ok(Update::Set(all)) => all.iter().map(name).collect(),
            _ => panic!("no Set"),
        }
    }
    assert_eq!(
        set(&heard.endpoints, |s| s.service.to_string()),
        ["shop/web", "default/dns"]
    );
    assert_eq!(set(&heard.nodes, |n| n.name.to_string()), ["n1"]);
    assert_eq!(
        set(&heard.service_cidrs, |c| c.cidrs[0].to_string()),
        ["10.96.0.0/16"]
    );
}

#[test]
fn a_directory_is_followed() {
    let folder = Folder::new();
    folder.write("a.yaml", &manifest(&["a=1"]));
    folder.write("b.yml", &manifest(&["b=1"]));
    folder.write("ignored.txt", &manifest(&["x=1"]));
    folder.write(".hidden.yaml", &manifest(&["x=1"]));
    fs::create_dir(folder.path().join("sub.yaml")).unwrap();
    let mut heard = Heard::from(folder.path());
    heard.soon(&["a=1", "b=1"]);
    folder.write("a.yaml", &manifest(&["a=2", "aa=1"]));
    heard.soon(&["a=2", "aa=1", "b=1"]);
    rename_over(&folder.path().join("b.yml"), &manifest(&["b=2"]));
    heard.soon(&["a=2", "aa=1", "b=2"]);
    folder.write("c.json", r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c","namespace":"shop"},"spec":{"clusterIP":"10.96.0.3"}}"#);
    heard.soon(&["a=2", "aa=1", "b=2", "c=3"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    heard.soon(&["b=2", "c=3"]);
    folder.write("ignored.txt", "");
    heard.stays(Some(&["b=2", "c=3"]));
}

#[test]
fn a_config_map_volume_is_followed() {
    let folder = Folder::new();
    let release = |name: &str, text: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        folder.write(&format!("{name}/web.yaml"), text);
        symlink(name, folder.path().join("..data_tmp")).unwrap();
        fs::rename(
            folder.path().join("..data_tmp"),
            folder.path().join("..data"),
        )
        .unwrap();
    };
    release("..2026_1", &manifest(&["web=1"]));
    symlink("..data/web.yaml", folder.path().join("web.yaml")).unwrap();
    let mut of_folder = Heard::from(folder.path());
    let mut of_file = Heard::from(&folder.path().join("web.yaml"));
    of_folder.soon(&["web=1"]);
    of_file.soon(&["web=1"]);
    for (name, version) in [("..2026_2", "web=2"), ("..2026_3", "web=3")] {
        release(name, &manifest(&[version]));
        of_folder.soon(&[version]);
        of_file.soon(&[version]);
    }
    fs::remove_dir_all(folder.path().join("..2026_1")).unwrap();
    of_folder.stays(Some(&["web=3"]));
}

#[test]
fn links_on_the_way_and_beyond_are_followed() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("one")).unwrap();
    fs::create_dir_all(folder.path().join("two")).unwrap();
    fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
    folder.write("elsewhere/real.yaml", &manifest(&["web=1"]));
    symlink("../elsewhere/real.yaml", folder.path().join("one/web.yaml")).unwrap();
    folder.write("two/web.yaml", &manifest(&["web=9"]));
    symlink("one", folder.path().join("current")).unwrap();
    let mut heard = Heard::from(&folder.path().join("current"));
    heard.soon(&["web=1"]);
    // The file behind the link changes where it lies.
    folder.write("elsewhere/real.yaml", &manifest(&["web=2"]));
    heard.soon(&["web=2"]);
    symlink("two", folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), folder.path().join("current")).unwrap();
    heard.soon(&["web=9"]);
    folder.write("two/web.yaml", &manifest(&["web=10"]));
    heard.soon(&["web=10"]);
}

#[test]
fn a_path_that_is_missing_is_waited_for() {
    let folder = Folder::new();
    let path = folder.path().join("not/yet/web.yaml");
    let mut heard = Heard::from(&path);
    eventually(SOON, "it says so", || {
        heard.listen();
        (heard.unavailable == 1).then_some(())
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    heard.stays(None);
    fs::write(&path, manifest(&["web=1"])).unwrap();
    heard.soon(&["web=1"]);
}

#[test]
fn a_path_that_goes_away_takes_nothing_with_it() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("m")).unwrap();
    folder.write("m/web.yaml", &manifest(&["web=1"]));
    folder.write("m/dns.yaml", &manifest(&["dns=1"]));
    let mut heard = Heard::from(&folder.path().join("m"));
    heard.soon(&["dns=1", "web=1"]);
    fs::rename(folder.path().join("m"), folder.path().join("away")).unwrap();
    eventually(SOON, "it says so", || {
        heard.listen();
        (heard.unavailable == 1).then_some(())
    });
    folder.write("away/web.yaml", &manifest(&["web=2"]));
    heard.stays(Some(&["dns=1", "web=1"]));
    fs::remove_file(folder.path().join("away/dns.yaml")).unwrap();
    fs::rename(folder.path().join("away"), folder.path().join("m")).unwrap();
    heard.soon(&["web=2"]);
    assert_eq!(heard.unavailable, 1, "said once");
}

#[test]
fn a_broken_file_keeps_what_it_said() {
    let folder = Folder::new();
    folder.write("a.yaml", &manifest(&["a=1"]));
    folder.write("b.yaml", &manifest(&["b=1"]));
    let mut heard = Heard::from(folder.path());
    heard.soon(&["a=1", "b=1"]);
    let broken = [
        "kind: [".to_owned(),
        // One good document does not save the others.
        format!(
            "{}---\napiVersion: v1\nkind: Service\nmetadata: {{}}\n",
            manifest(&["a=7"])
        ),
        "apiVersion: v1\nmetadata: {name: a}\n".to_owned(),
        String::from_utf8(vec![0; 100]).unwrap(),
    ];
    for (round, text) in (2..).zip(broken) {
        folder.write("a.yaml", &text);
        heard.stays(Some(&["a=1", &format!("b={}", round - 1)]));
        folder.write("b.yaml", &manifest(&[&format!("b={round}")]));
        heard.soon(&["a=1", &format!("b={round}")]);
    }
    folder.write("a.yaml", &manifest(&["a=2"]));
    heard.soon(&["a=2", "b=5"]);
    // Deleted is not broken.
    folder.write("b.yaml", "kind: [");
    heard.stays(Some(&["a=2", "b=5"]));
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    heard.soon(&["a=2"]);
    assert_eq!(heard.unavailable, 0);
}

#[test]
fn a_bad_object_costs_that_object() {
    let bad = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: 5\n"
        )
    };
    let nameless = "---\napiVersion: v1\nkind: Service\nmetadata: {}\n";
    let folder = Folder::new();
    let path = folder.path().join("m.yaml");
    let said = |heard: &mut Heard, expect: &[&str], complaints: &[&str]| {
        heard.soon(expect);
        let what = format!("{complaints:?}");
        eventually(SOON, &what, || {
            heard.listen();
            let found = &heard.complaints;
            let all = complaints
                .iter()
                .zip(found)
                .all(|(expect, found)| found.starts_with(expect));
            (all && found.len() == complaints.len()).then_some(())
        });
    };
    // At first whatever can be used is; what cannot even be named is nobody's yet.
    let text = format!(
        "{}{}{nameless}---\nkind: [\n",
        manifest(&["a=1", "b=1"]),
        bad("c")
    );
    fs::write(&path, text).unwrap();
    let mut heard = Heard::from(&path);
    let syntax = format!("{}: line ", path.display());
    let complaints = [
        &*syntax,
        "Service: metadata.name: missing",
        "Service shop/c: spec: expected",
    ];
    said(&mut heard, &["a=1", "b=1"], &complaints);
    // An object that was good stays as it was, the others move on.
    let text = format!("{}{}", manifest(&["a=2"]), bad("b"));
    fs::write(&path, text).unwrap();
    said(
        &mut heard,
        &["a=2", "b=1"],
        &["Service shop/b: spec: expected"],
    );
    fs::write(&path, manifest(&["b=3"])).unwrap();
    said(&mut heard, &["b=3"], &[]);
    // Two of one: the first counts.
    fs::write(&path, manifest(&["b=3", "b=4"])).unwrap();
    said(
        &mut heard,
        &["b=3"],
        &["Service shop/b: defined more than once in "],
    );
    assert_eq!(
        (heard.removed.as_slice(), heard.unavailable),
        (&["a".to_owned()][..], 0)
    );
}

#[test]
fn nothing_usable_at_the_start_is_not_an_empty_cluster() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", "kind: [");
    let mut heard = Heard::from(&path);
    heard.stays(None);
    assert_eq!(heard.unavailable, 1);
    fs::write(&path, manifest(&["a=1"])).unwrap();
    heard.soon(&["a=1"]);
    // But an empty directory is.
    let folder = Folder::new();
    Heard::from(folder.path()).soon(&[]);
}

#[test]
fn an_object_that_moves_between_files_is_never_gone() {
    let folder = Folder::new();
    folder.write("b.yaml", &manifest(&["x=1", "y=1"]));
    let mut heard = Heard::from(folder.path());
    heard.soon(&["x=1", "y=1"]);
    // To another file, before and after it by name; then the whole file, by renaming it.
    folder.write("a.yaml", &manifest(&["x=2"]));
    heard.soon(&["x=2", "y=1"]);
    folder.write("c.yaml", &manifest(&["y=3"]));
    heard.stays(Some(&["x=2", "y=1"]));
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    heard.soon(&["x=2", "y=3"]);
    fs::rename(folder.path().join("a.yaml"), folder.path().join("z.yaml")).unwrap();
    fs::rename(folder.path().join("c.yaml"), folder.path().join("0.yaml")).unwrap();
    folder.write("w.yaml", &manifest(&["w=1"]));
    heard.soon(&["w=1", "x=2", "y=3"]);
    assert_eq!(heard.removed, Vec::<String>::new());
}

#[test]
fn a_file_is_read_when_its_writer_is_done() {
    use std::io::Write;
    let folder = Folder::new();
    let path = folder.write("a.yaml", &manifest(&["a=1", "b=1"]));
    let mut heard = Heard::from(folder.path());
    heard.soon(&["a=1", "b=1"]);
    let mut file = fs::File::create(&path).unwrap();
    let mut written = Instant::now();
    let mut in_time = true;
    for i in 2..12 {
        // Something else happens meanwhile.
        folder.write("other.yaml", &manifest(&[&format!("other={i}")]));
        file.write_all(manifest(&[&format!("a{i}=1")]).as_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        // A machine that stalls makes a writer that pauses, whom nobody can tell from one that is done.
        in_time &= written.elapsed() < Duration::from_millis(45);
        written = Instant::now();
        heard.listen();
        let early = in_time && !heard.removed.is_empty();
        assert!(!early, "read before it was written");
    }
    drop(file);
    eventually(SOON, "a2 to a11", || {
        (heard.now()?.len() == 11).then_some(())
    });
    heard.soon(&[
        "a10=1", "a11=1", "a2=1", "a3=1", "a4=1", "a5=1", "a6=1", "a7=1", "a8=1", "a9=1",
        "other=11",
    ]);
}

#[test]
fn the_source_ends_with_its_handle_and_its_objects_stay() {
    let folder = Folder::new();
    folder.write("a.yaml", &manifest(&["a=1"]));
    let mut heard = Heard::from(folder.path());
    heard.soon(&["a=1"]);
    heard.source = None;
    assert!(
        heard.services.recv_timeout(SOON).is_err(),
        "its channels end"
    );

    let mut muxes = (
        Mux::default(),
        Mux::default(),
        Mux::default(),
        Mux::default(),
    );
    let name = FileSource::name(folder.path());
    let sinks = Sinks {
        services: muxes.0.channel(&name),
        endpoints: muxes.1.channel(&name),
        nodes: muxes.2.channel(&name),
        service_cidrs: muxes.3.channel(&name),
    };
    let source = FileSource::start(folder.path(), sinks).unwrap();
    let config = ServiceConfig::start(muxes.0).unwrap();
    let subscription = config.subscribe();
    subscription.signal().recv_timeout(SOON).unwrap();
    let told = subscription.take().unwrap();
    assert!(told.snapshot.synced && told.snapshot.objects.len() == 1);
    drop(source);
    drop(config);
}
