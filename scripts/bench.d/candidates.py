"""What can stand between clients and backends: each forwards the same ports of its virtual IP to the same endpoints."""

import json
import os
import pathlib
import re
import shutil
import signal

import lab as labs
from cluster import Cluster
from topology import PORTS, TARGETS

NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"

# Two instances on one file system: no control socket.
QUIET = ["--control-socket", ""]

# What each candidate is made of; everything else is needed by the workloads.
PACKAGES = {
    "haproxy": {"haproxy": "haproxy"},
    "nginx": {NGINX_STREAM: "libnginx-mod-stream"},
    "kernel-dnat": {"nft": "nftables"},
    "kube-proxy": {"kubectl": "kubernetes-client", "iptables": "iptables"},
}


class Candidate:
    """Nothing in between: clients reach the backends by routing."""

    name, udp = "direct", True
    # Seconds until the first answer at most.
    patience = 20

    def __init__(self, topology, settings):
        self.topology, self.lab, self.settings = topology, topology.lab, settings
        self.node = topology.node(self.name)
        self.namespace, self.process = self.node.namespace, None

    def target(self, port):
        """Address and port that clients use."""
        return self.node.endpoints[0], TARGETS[port]

    def prepare(self):
        """Starts whatever forwards."""

    def resume(self):
        """Called before it is measured."""

    def pause(self):
        """Called after it was measured."""

    def pids(self):
        """The processes that do the forwarding."""
        return labs.family(self.process.pid) if self.process else []

    def ended(self):
        """Whether its program is no more."""
        return self.process is not None and self.process.poll() is not None

    def answers(self):
        """Whether a request comes through."""
        address, port = self.target("http")
        url = f"http://{address}:{port}/"
        return "backend" in self.topology.client.run("curl", "-s", "-m", "2", url, check=False).stdout

    def start(self):
        """Brings it up."""
        self.prepare()
        self.wait()

    def wait(self):
        """Waits for the first answer."""
        if not labs.eventually(self.answers, self.patience, pause=0.1):
            raise labs.Failed(f"{self.name} does not forward: {self.lab.log(self.name)[-600:]}")


class Forwarder(Candidate):
    """A candidate that serves the virtual IP."""

    def target(self, port):
        return self.node.vip, PORTS[port]


class KernelDnat(Forwarder):
    """nftables, as kube-proxy uses it, with one endpoint."""

    name = "kernel-dnat"

    def prepare(self):
        rules = "\n".join(
            f"ip daddr {self.node.vip} {'udp' if name == 'dns' else 'tcp'} dport {PORTS[name]} "
            f"dnat to {self.node.endpoints[0]}:{TARGETS[name]}"
            for name in PORTS
        )
        chain = f"chain pre {{\n type nat hook prerouting priority -100;\n{rules}\n}}"
        self.namespace.run("nft", f"table ip bench {{\n{chain}\n}}")


class Spawned(Forwarder):
    """A candidate that is a program."""

    local_vip = True

    def command(self):
        """Its command line."""
        raise NotImplementedError

    def prepare(self):
        if self.local_vip:
            self.namespace.ip(f"addr add {self.node.vip}/32 dev lo")
        self.spawn()

    def spawn(self):
        """Starts the program."""
        self.process = self.namespace.start(self.name, *self.command())

    def restart(self):
        """Brings the program back after it ended."""
        self.spawn()
        self.wait()

    def last_words(self):
        """Why the program ended, by its log."""
        log = self.lab.log(self.name)
        panic = re.search(r"panic: .*", log)
        return panic[0] if panic else log[-200:]


class HAProxy(Spawned):
    """HAProxy in TCP mode; it has no UDP."""

    name, udp = "haproxy", False

    def command(self):
        vip, endpoints = self.node.vip, self.node.endpoints
        servers = {name: endpoints if name == "http" else endpoints[:1] for name in PORTS if name != "dns"}
        sections = "\n".join(
            f"listen {name}\n  bind {vip}:{PORTS[name]} backlog 65535\n"
            + "\n".join(f"  server s{i} {ip}:{TARGETS[name]}" for i, ip in enumerate(ips))
            for name, ips in servers.items()
        )
        config = f"""
global
  nbthread 2
  maxconn 6000
defaults
  mode tcp
  timeout connect 2s
  timeout client 600s
  timeout server 600s
  option splice-auto
  balance roundrobin
{sections}
"""
        return ["haproxy", "-f", self.lab.file("haproxy.cfg", config)]


class Nginx(Spawned):
    """nginx's stream module."""

    name = "nginx"

    def command(self):
        vip, endpoints = self.node.vip, self.node.endpoints
        web = " ".join(f"server {ip}:{TARGETS['http']};" for ip in endpoints)
        config = f"""
load_module {NGINX_STREAM};
daemon off; worker_processes 2; pid {self.lab.folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 9000; }}
stream {{
  upstream web {{ {web} }}
  server {{ listen {vip}:{PORTS['http']} backlog=65535 reuseport; proxy_pass web; tcp_nodelay on; }}
  server {{ listen {vip}:{PORTS['iperf']} reuseport; proxy_pass {endpoints[0]}:{TARGETS['iperf']}; }}
  server {{ listen {vip}:{PORTS['burst']} reuseport; proxy_pass {endpoints[0]}:{TARGETS['burst']}; tcp_nodelay on; }}
  server {{ listen {vip}:{PORTS['dns']} udp reuseport; proxy_pass {endpoints[0]}:{TARGETS['dns']}; proxy_responses 1; proxy_timeout 1s; }}
}}
"""
        return ["nginx", "-c", self.lab.file("nginx.conf", config)]


class BareHost(Spawned):
    """The least that a proxy can do (tests/bare_loop_main.rs), listening in the node's namespace."""

    name, udp = "bare-host", False
    options = ()

    def command(self):
        forwards = []
        for name in PORTS:
            endpoints = self.node.endpoints if name == "http" else self.node.endpoints[:1]
            targets = ",".join(f"{ip}:{TARGETS[name]}" for ip in endpoints)
            forwards.append(f"{self.node.vip}:{PORTS[name]}={targets}")
        return [self.settings.bare, *self.options, *forwards]


class BareNetns(BareHost):
    """The same, listening in a namespace of its own behind a veth pair, as portico's netns portal does."""

    name, local_vip = "bare-netns", False

    def prepare(self):
        portal = self.lab.namespace("bare-portal")
        self.options = ("--netns", portal.name)
        self.lab.link(self.namespace, "portal", ["169.254.88.2/30"], portal, "eth0", ["169.254.88.1/30"])
        portal.sysctl("net.ipv4.ip_forward=0")
        portal.ip("route add default via 169.254.88.2")
        portal.ip(f"route add local {self.node.vip}/32 dev lo")
        self.namespace.ip(f"route add {self.node.vip}/32 via 169.254.88.1 dev portal onlink")
        super().prepare()


class PorticoHost(Spawned):
    """portico, fed by a manifest file."""

    name, local_vip, portal = "portico-host", False, "host"

    def command(self):
        manifest = self.lab.file(f"{self.name}.json", json.dumps(manifests(self.node)))
        # A file of its own: programs that run the same file share its pages, and each would be charged half of them.
        program = self.lab.folder / self.name
        shutil.copy(self.settings.portico, program)
        return [program, "--portal", self.portal, "--manifests", manifest, "--hostname-override", "n1", *QUIET]


class PorticoNetns(PorticoHost):
    """The same behind the netns portal."""

    name, portal = "portico-netns", "netns"


class KubeProxy(Spawned):
    """kube-proxy 1.20's userspace mode, with an apiserver of its own in the same namespace.

    While another candidate is measured it is stopped, and the apiserver is at all times once the ports are open.
    """

    name, local_vip = "kube-proxy", False
    # It asks for its Node object for half a minute.
    patience = 60

    def __init__(self, topology, settings):
        super().__init__(topology, settings)
        self.cluster = Cluster(self.lab, settings.real_apiserver, settings.cluster, self.namespace.inside)

    def command(self):
        assets = pathlib.Path(os.environ.get("KUBE_ASSETS", "~/.cache/kube-assets")).expanduser()
        return [
            assets / "kube-proxy", "--kubeconfig", self.cluster.admin, "--proxy-mode", "userspace",
            "--hostname-override", "n1", "--feature-gates", "EndpointSliceProxying=false", "--conntrack-max-per-core", "0",
        ]  # fmt: skip

    def prepare(self):
        self.cluster.up()
        objects = self.lab.file("services.json", json.dumps(manifests(self.node)))
        self.namespace.run("kubectl", "--kubeconfig", self.cluster.admin, "apply", "--validate=false", "-f", objects)
        super().prepare()

    def spawn(self):
        self.cluster.signal(signal.SIGCONT)
        super().spawn()

    def wait(self):
        super().wait()
        self.cluster.signal(signal.SIGSTOP)
        self.pause()

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)


def manifests(node):
    """The Service that every candidate serves, in both endpoint APIs: HTTP has two endpoints, the rest have one."""

    def ports(names):
        protocols = {"dns": "UDP"}
        return [{"name": name, "protocol": protocols.get(name, "TCP"), "port": TARGETS[name]} for name in names]

    groups = {"web": (["http"], node.endpoints), "rest": (["iperf", "dns", "burst"], node.endpoints[:1])}
    service = {"clusterIP": node.vip, "ports": [p | {"port": PORTS[p["name"]], "targetPort": p["port"]} for p in ports(PORTS)]}
    subsets = [{"addresses": [{"ip": ip} for ip in ips], "ports": ports(names)} for names, ips in groups.values()]
    items = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench", "namespace": "default"}, "spec": service},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "bench", "namespace": "default"}, "subsets": subsets},
    ]
    for group, (names, ips) in groups.items():
        labels = {"kubernetes.io/service-name": "bench"}
        items.append({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"bench-{group}", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "ports": ports(names),
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
        })  # fmt: skip
    return {"apiVersion": "v1", "kind": "List", "items": items}


ALL = [Candidate, KernelDnat, HAProxy, Nginx, BareHost, BareNetns, PorticoHost, PorticoNetns, KubeProxy]
