"""The machines that faults happen to, what runs on them, and how what is found is compared with bounds.

    client 10.91.1.2 fd91:1::2 -- 10.91.1.1 node 10.91.2.1 -- pods 10.91.2.11 to .14, fd91:2::11 to ::14
                                            node 10.91.3.1 -- 10.91.3.2 far, which is also the node's default gateway
"""

import json
import os
import pathlib
import signal
import sys

import lab as labs

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLIENT, NODE, PODS, FAR = "10.91.1.2", "10.91.1.1", [f"10.91.2.{n}" for n in range(11, 15)], "10.91.3.2"
VIP = "10.96.0.80"


class Site:
    """Client, node, pods and a far machine; and what was found wrong."""

    def __init__(self, lab, portico):
        self.lab, self.program, self.failed, self.started = lab, portico, [], 0
        self.client, self.node, self.pods, self.far = (lab.namespace(name) for name in ("client", "node", "pods", "far"))
        for machine in (self.client, self.node, self.pods, self.far):
            machine.sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        join = lab.link
        join(self.node, "client0", [f"{NODE}/24", "fd91:1::1/64"], self.client, "eth0", [f"{CLIENT}/24", "fd91:1::2/64"])
        pods = [f"{ip}/24" for ip in PODS] + [f"fd91:2::{n}/64" for n in range(11, 15)]
        join(self.node, "pods0", ["10.91.2.1/24", "fd91:2::1/64"], self.pods, "eth0", pods)
        join(self.node, "far0", ["10.91.3.1/24", "fd91:3::1/64"], self.far, "eth0", [f"{FAR}/24", "fd91:3::2/64"])
        for machine, gateway in ((self.client, NODE), (self.pods, "10.91.2.1"), (self.far, "10.91.3.1"), (self.node, FAR)):
            machine.ip(f"route add default via {gateway}")
        for machine, gateway in ((self.client, "fd91:1::1"), (self.pods, "fd91:2::1"), (self.far, "fd91:3::1")):
            machine.ip(f"-6 route add default via {gateway}")
        self.node.sysctl("net.ipv6.conf.all.forwarding=1")

    # What runs.

    def serve(self, machine, label, *places):
        """A server in some machine: `ip:port:text` each, which answers HTTP with that text; `echo` echoes, `hold` says nothing."""
        self.script(machine, label, "serve", *places)
        for place in places:
            port = int(place.rsplit(":", 1)[0].rsplit(":", 1)[1])
            self.need(lambda port=port: f":{port} " in machine.run("ss", "-tlnH").stdout, f"{place} is served")

    def script(self, machine, label, *command, **options):
        """Starts one of the clients or servers of actors.py; its output is the label's log."""
        return machine.start(label, sys.executable, HERE / "actors.py", *command, **options)

    def ask(self, machine, *command, patience=60):
        """Runs one of them to its end; what it prints is JSON."""
        done = machine.run(sys.executable, HERE / "actors.py", *command, timeout=patience)
        return json.loads(done.stdout)

    def portico(self, *args, machine=None, ready=True):
        """Starts the program on the node; its log is its label's."""
        self.started += 1
        label = f"portico{self.started}"
        sock = self.lab.folder / f"{label}.sock"
        common = ["--hostname-override", "node-1", "--control-socket", sock]
        process = (machine or self.node).start(label, self.program, *common, *args)
        process.label, process.sock = label, sock
        if ready:
            self.need(lambda: "listeners open" in self.lab.log(label) or process.poll() is not None, "portico is ready")
        return process

    def end(self, process, number=signal.SIGTERM, patience=60):
        """Ends a program by a signal and waits for it."""
        process.send_signal(number)
        process.wait(patience)

    def explain(self, process, *args):
        """What the running proxy says."""
        return labs.run(self.program, "explain", "--control-socket", process.sock, *args, check=False).stdout

    def manifest(self, *objects):
        """Writes the objects to the one manifest of this run, at once."""
        path = self.lab.folder / "manifest.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [o for pair in objects for o in pair]}))
        fresh.rename(path)
        return path

    def apiserver(self, machine, ip, port):
        """The tests' apiserver in some machine; its URL."""
        example = os.environ.get("APISERVER")
        if not example:
            labs.run("cargo", "build", "--quiet", "--example", "apiserver", cwd=ROOT)
            target = json.loads(labs.run("cargo", "metadata", "--no-deps", "--format-version=1", cwd=ROOT).stdout)["target_directory"]
            example = f"{target}/debug/examples/apiserver"
        machine.start("apiserver", example, "--listen", f"{ip}:{port}")
        self.need(lambda: self.lab.log("apiserver"), "the apiserver serves")
        return f"http://{ip}:{port}"

    def request(self, machine, method, url, body=None):
        """One request, from some machine."""
        words = ["-sf", "-o", "/dev/null", "-X", method]
        if body:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        machine.run("curl", *words, url)

    def put(self, machine, url, *objects):
        """Creates or replaces objects."""
        for made in objects:
            kind = {"Service": "services", "EndpointSlice": "endpointslices"}[made["kind"]]
            group = "/api/v1" if kind == "services" else "/apis/discovery.k8s.io/v1"
            meta = made["metadata"]
            self.request(machine, "PUT", f"{url}{group}/namespaces/{meta['namespace']}/{kind}/{meta['name']}", made)

    # What is found.

    def need(self, condition, what, seconds=30):
        """Waits for what the rest depends on."""
        value = labs.eventually(condition, seconds)
        if value is None:
            raise labs.Failed(f"waited in vain: {what}")
        return value

    def check(self, what, value, at_most=None, at_least=None, is_=None):
        """Compares a figure with its bound."""
        bounds = [(at_most, "at most", lambda b: value <= b), (at_least, "at least", lambda b: value >= b)]
        bounds.append((is_, "exactly", lambda b: value == b))
        for bound, word, holds in bounds:
            if bound is not None:
                good = holds(bound)
                print(f"{'ok  ' if good else 'FAIL'} {what}: {value} ({word} {bound})", flush=True)
                if not good:
                    self.failed.append(what)


def service(name, cluster_ip, port, endpoints, target=8080, protocol="TCP", node_port=None, external=(), balanced=(), **spec):
    """A Service with one port, and its EndpointSlice."""
    ports = {"name": "p", "port": port, "protocol": protocol, "targetPort": target}
    kind = "NodePort" if node_port else "ClusterIP"
    made = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"type": kind, "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": [ports]} | spec,
    }
    if node_port:
        ports["nodePort"] = node_port
    if external:
        made["spec"]["externalIPs"] = list(external)
    if balanced:
        made["spec"]["type"] = "LoadBalancer"
        made["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in balanced]}}
    six = ":" in cluster_ip
    if six:
        made["spec"]["ipFamilies"] = ["IPv6"]
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "d", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv6" if six else "IPv4",
        "ports": [{"name": "p", "port": target, "protocol": protocol}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in endpoints],
    }
    return made, slices


def web(node_port=30080):
    """The Service that must go on working."""
    return service("web", VIP, 80, PODS[:2], node_port=node_port)
