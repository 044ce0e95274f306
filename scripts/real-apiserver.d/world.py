"""Three machines, a real apiserver, backends, clients and portico: what the steps act on and ask.

    client 10.77.1.2 fd77:1::2 -- 10.77.1.1 node 10.77.2.1 -- pods 10.77.2.11 to .14, fd77:2::11 to ::14

Apiserver and portico run on `node`. Services and endpoints live in the apiserver's namespace `default`, those of IPv6 in a
manifest.
"""

import collections
import json
import os
import signal

import lab as labs
from cluster import Cluster

PORT = 16443
CORE = "/api/v1/namespaces/default"
NODE = "/api/v1/nodes/node-1"
WEB, DNS, BULK, GONE, NODE_PORT = "10.96.0.80", "10.96.0.53", "10.96.0.52", "10.96.0.99", 30080
WEB6, DNS6 = "fd00:10:96::80", "fd00:10:96::53"
NODE_IP, ENDPOINT = "10.77.1.1", "10.77.2."
# curl's exit statuses.
REFUSED, TIMED_OUT = 7, 28

MANIFEST = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}-6, namespace: six}}
spec:
  clusterIP: {address}
  ipFamilies: [IPv6]
  ports: [{{name: {port_name}, protocol: {protocol}, port: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-6-1, namespace: six, labels: {{kubernetes.io/service-name: {name}-6}}}}
addressType: IPv6
ports: [{{name: {port_name}, protocol: {protocol}, port: {target}}}]
endpoints: [{endpoints}]
"""


class Wrong(Exception):
    """What a step found instead of what must be."""


def expect(condition, text):
    """Ends the step unless something holds."""
    if not condition:
        raise Wrong(text)


def soon(seconds, test, *args):
    """Waits until a test holds; raises what it says at last."""

    def holds():
        try:
            test(*args)
            return True
        except Wrong:
            return False

    if not labs.eventually(holds, seconds):
        test(*args)


def service(name, cluster_ip, **spec):
    """A Service with one port or more."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": cluster_ip, **spec}}


def endpoint(byte, **more):
    """One endpoint of a slice: 10.77.2.BYTE."""
    return {"addresses": [f"{ENDPOINT}{byte}"], **more}


class World:
    """Everything of one run; the apiserver and portico come and go."""

    def __init__(self, lab, real, portico, backend):
        self.lab, self.real, self.program, self.backend = lab, real, portico, backend
        self.mode, self.process, self.host = None, None, None
        self.client, self.node, self.pods = (lab.namespace(name) for name in ("client", "node", "pods"))
        self.wire()
        self.folder = lab.folder / "api"
        self.cluster = Cluster(lab, real, self.folder, self.node.inside)
        self.manifests = lab.folder / "manifests"
        self.socket = lab.folder / "control.sock"

    def wire(self):
        """Addresses and routes; IPv6 works at once, without duplicate address detection."""
        for namespace in (self.client, self.node, self.pods):
            namespace.sysctl("net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        pods = [f"{ENDPOINT}{n}/24" for n in range(11, 15)] + [f"fd77:2::{n}/64" for n in range(11, 15)]
        self.lab.link(self.client, "to-node", ["10.77.1.2/24", "fd77:1::2/64"], self.node, "to-client", [f"{NODE_IP}/24", "fd77:1::1/64"])
        self.lab.link(self.pods, "to-node", pods, self.node, "to-pods", [f"{ENDPOINT}1/24", "fd77:2::1/64"])
        self.node.sysctl("net.ipv6.conf.all.forwarding=1")
        for namespace, net in ((self.client, 1), (self.pods, 2)):
            namespace.ip(f"route add default via 10.77.{net}.1")
            namespace.ip(f"route add default via fd77:{net}::1")

    # --- the apiserver

    def server_up(self, **settings):
        """Starts it: empty, or with RESUME=1 as it was."""
        self.cluster.up(SLICES=self.mode, **settings)

    def api(self, method, path, body=None):
        """A request as the administrator; None where the apiserver refuses. PATCH merges."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        certificates = ["--cacert", self.folder / "ca.crt", "--cert", self.folder / "admin.crt", "--key", self.folder / "admin.key"]
        command = ["curl", "-fsS", "--max-time", 20, *certificates, "-X", method, "-H", f"Content-Type: {kind}"]
        if body is not None:
            command += ["-d", json.dumps(body)]
        done = self.node.run(*command, f"https://127.0.0.1:{PORT}{path}", check=False)
        return done.stdout if done.returncode == 0 else None

    def put(self, collection, body):
        """Changes an object, or makes it."""
        name = body["metadata"]["name"]
        if self.api("PATCH", f"{collection}/{name}", body) is None:
            expect(self.api("POST", collection, body) is not None, f"the apiserver refuses {name} in {collection}")

    def kube(self, *words):
        """kubectl as the administrator."""
        done = self.node.run("kubectl", "--kubeconfig", self.cluster.admin, "--cache-dir", self.lab.folder / "kube-cache", *words, check=False)
        expect(done.returncode == 0, f"kubectl {' '.join(map(str, words))}: {done.stderr.strip()}")

    def service(self, name, cluster_ip, **spec):
        """Makes a Service, or changes it."""
        self.put(f"{CORE}/services", service(name, cluster_ip, **spec))

    def endpoints(self, owner, port, *numbers, name="http", protocol="TCP"):
        """A Service's endpoints, 10.77.2.NUMBER each, by the API of this mode."""
        ports = [{"name": name, "protocol": protocol, "port": port}]
        if self.mode == "none":
            subsets = [{"addresses": [{"ip": f"{ENDPOINT}{n}"} for n in numbers], "ports": ports}]
            self.put(f"{CORE}/endpoints", {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": owner}, "subsets": subsets})
            return
        version = f"discovery.k8s.io/{self.mode}"
        labels = {"kubernetes.io/service-name": owner}
        endpoints = [endpoint(n, conditions={"ready": True}) for n in numbers]
        self.put(
            f"/apis/{version}/namespaces/default/endpointslices",
            {"apiVersion": version, "kind": "EndpointSlice", "metadata": {"name": f"{owner}-1", "labels": labels},
             "addressType": "IPv4", "ports": ports, "endpoints": endpoints},
        )  # fmt: skip

    def web(self, *numbers):
        """The endpoints of the Service that most steps ask."""
        self.endpoints("web", 8080, *numbers)

    def objects(self):
        """What is there from the start."""
        self.service("web", WEB, type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": NODE_PORT}])
        self.web(11, 12)
        self.service("dns", DNS, ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])
        self.endpoints("dns", 5353, 13, name="dns", protocol="UDP")
        self.service("bulk", BULK, ports=[{"name": "iperf", "port": 5201}])
        self.endpoints("bulk", 5201, 11, name="iperf")
        self.service("gone", GONE, ports=[{"name": "http", "port": 80}])
        self.endpoints("gone", 8080, 11)

    def six(self):
        """The manifest: the apiserver knows IPv4 alone."""
        self.manifests.mkdir()
        web = {"name": "web", "address": WEB6, "port_name": "http", "protocol": "TCP", "port": 80, "target": 8080}
        dns = {"name": "dns", "address": DNS6, "port_name": "dns", "protocol": "UDP", "port": 53, "target": 5353}
        text = ""
        for one, numbers in ((web, (11, 12)), (dns, (13,))):
            endpoints = ", ".join(f"{{addresses: ['fd77:2::{n}']}}" for n in numbers)
            text += MANIFEST.format(endpoints=endpoints, **one)
        (self.manifests / "six.yaml").write_text(text)

    # --- programs

    def backends(self):
        """Two web servers, a name server, iperf3."""
        for name, number in (("blue", 11), ("green", 12)):
            self.pods.start(name, self.backend, name, "--http", f"{ENDPOINT}{number}:8080", "--http", f"[fd77:2::{number}]:8080")
        self.pods.start("teal", self.backend, "teal", "--dns", f"{ENDPOINT}13:5353", "--dns", "[fd77:2::13]:5353")
        self.pods.start("iperf3", "iperf3", "-s")
        self.host_program()

    def host_program(self):
        """A program of the node itself, on the Services' ports."""
        if self.host:
            labs.stop(self.host)
        self.host = self.node.start("host", self.backend, "host", "--http", "0.0.0.0:80", "--http", "0.0.0.0:22")

    def start(self, seconds=20):
        """portico, until it serves."""
        flags = ["--kubeconfig", self.cluster.proxy, "--manifests", self.manifests, "--hostname-override", "node-1"]
        self.process = self.node.start("portico", self.program, *flags, "--control-socket", self.socket, "-v", 2)
        soon(seconds, self.answers, f"http://{WEB}/")

    def kill(self):
        """Ends portico without a word."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def open_files(self):
        """portico's."""
        return labs.open_files([self.process.pid])

    def rss_kb(self):
        """portico's resident memory."""
        return labs.status_kb(self.process.pid, "VmRSS")

    def nothing_left(self):
        """Neither link, route nor rule of portico's."""
        shown = [self.node.run("ip", "-o", "link", "show", "vethportico", check=False).stdout]
        for family in ("-4", "-6"):
            shown.append(self.node.run("ip", family, "route", "show", "table", "all", "proto", "112", check=False).stdout)
        rules = self.node.run("ip", "rule", "show", check=False).stdout.splitlines()
        left = "".join(shown) + "\n".join(rule for rule in rules if "proto 112" in rule)
        expect(not left.strip(), f"left behind: {left}")

    # --- clients

    def fetch(self, *options, who=None, limit=10):
        """curl on the client, or on another machine."""
        return (who or self.client).run("curl", "-sS", "--max-time", limit, *options, check=False)

    def requests(self, url, count):
        """Who answered each of so many connections."""
        done = self.fetch("-H", "Connection: close", f"{url}?[1-{count}]")
        expect(done.returncode == 0, f"a request failed: {done.stderr.strip()[-200:]}")
        return done.stdout.split()

    def answers(self, url):
        """Somebody does."""
        expect(self.fetch("-o", "/dev/null", url).returncode == 0, f"no answer from {url}")

    def answered(self, url, count):
        """Who answered, and how often."""
        return dict(sorted(collections.Counter(self.requests(url, count)).items()))

    def both(self, host):
        """Both web servers answer."""
        found = self.answered(f"http://{host}/", 20)
        expect(set(found) == {"blue", "green"}, f"{host}: {found}")
        return told(found)

    def only(self, name, host, count=6):
        """One of them, and never the other."""
        found = self.answered(f"http://{host}/", count)
        expect(set(found) == {name}, f"{host}: {found}")
        return told(found)

    def status(self, host, limit=10):
        """curl's exit status."""
        return self.fetch("-o", "/dev/null", f"http://{host}/", limit=limit).returncode

    def refused(self, host):
        """The kernel says at once that nobody listens."""
        status = self.status(host)
        expect(status == REFUSED, f"{host}: curl says {status}, not {REFUSED} (refused)")

    def silent(self, host):
        """Neither an answer nor a refusal."""
        status = self.status(host, 0.7)
        expect(status == TIMED_OUT, f"{host}: curl says {status}, not {TIMED_OUT} (silence)")

    def unreachable(self, host):
        """No answer, in whatever way."""
        expect(self.status(host, 0.7) != 0, f"{host} answers")

    def dns(self, address):
        """The name server answers through a Service."""
        done = self.client.run("dig", "+short", "+tries=1", "+time=2", "TXT", "whoami", f"@{address}", check=False)
        expect(done.stdout.strip() == '"teal"', f"{done.stdout}{done.stderr}")


def told(found):
    """`blue x10, green x10`"""
    return ", ".join(f"{name} x{count}" for name, count in found.items())

