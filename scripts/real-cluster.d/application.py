"""A small application in the cluster, its clients on both nodes, and what `load` counted."""

import dataclasses
import re

from kubernetes import AGNHOST, NODES, node_ip
from lab import Failed, eventually

NAMESPACE = "shop"
NODE_PORT = 30080
HOST_PORT = 18090
HOST_SERVER = 18080

MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 20
      topologySpreadConstraints:
      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
      - name: web
        image: {AGNHOST}
        args: [netexec]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{exec: {{command: [sleep, "2"]}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports:
  - {{name: http, port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}
  - {{name: udp, port: 81, targetPort: 8081, protocol: UDP}}
---
apiVersion: v1
kind: Service
metadata: {{name: on-host}}
spec: {{selector: {{app: on-host}}, ports: [{{port: 80, targetPort: {HOST_SERVER}}}]}}
"""


def pod(name, node, container="", labels="", **spec):
    """A pod of agnhost on one node, as YAML; `container` adds to its container, `labels` to its labels."""
    more = "".join(f"\n  {key}: {value}" for key, value in spec.items())
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{role: helper{labels}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  restartPolicy: Always{more}
  containers:
  - {{name: main, image: "{AGNHOST}"{container}}}
"""


def helpers():
    """Clients on each node, in the pod network and in the node's; a server in a node's network, and one with a hostPort."""
    parts = []
    for node in NODES:
        parts.append(pod(f"client-{node}", node))
        parts.append(pod(f"host-{node}", node, hostNetwork="true", dnsPolicy="ClusterFirstWithHostNet"))
    server = f", args: [netexec, --http-port={HOST_SERVER}, --udp-port={HOST_SERVER}]"
    parts.append(pod("on-host", NODES[0], server, ", app: on-host", hostNetwork="true"))
    parts.append(pod("with-port", NODES[1], f", args: [netexec], ports: [{{containerPort: 8080, hostPort: {HOST_PORT}}}]"))
    return "".join(parts)


def start(cluster):
    """Everything, until it is ready."""
    cluster.kubectl("apply", "-f", "-", input=MANIFEST.split("---")[0])
    cluster.apply("---".join(MANIFEST.split("---")[1:]) + helpers(), NAMESPACE)
    cluster.rolled_out(NAMESPACE, "deployment/web")
    helpers_ready(cluster)


def helpers_ready(cluster):
    """Waits for the helping pods."""
    cluster.kubectl("-n", NAMESPACE, "wait", "pod", "-l", "role=helper", "--for", "condition=Ready", "--timeout", "120s")


def stop(cluster):
    """Removes it all, and waits until its pods are gone."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout", "120s")


def cluster_ip(cluster, service="web"):
    """A Service's address."""
    return cluster.kubectl("-n", NAMESPACE, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}")


def fetch(cluster, client, url, *words):
    """What a client pod gets from a URL."""
    return cluster.in_pod(NAMESPACE, client, "curl", "-sS", "--max-time", "5", *words, url)


def answers(cluster, client, url, count=12):
    """Who answered so many requests of a client, each on a connection of its own; fails when one is not answered."""
    ranged = f"{url}?[1-{count}]"
    said = fetch(cluster, client, ranged, "-H", "Connection: close", "-w", "\\n").split()
    if len(said) != count:
        raise Failed(f"{client}: {len(said)} of {count} requests to {url} answered")
    return sorted(set(said))


def reached(cluster, client, url, seconds=20):
    """Waits until a client gets an answer from a URL."""

    def answered():
        try:
            return answers(cluster, client, url, 1)
        except Failed:
            return None

    found = eventually(answered, seconds, 0.3)
    if not found:
        # Once more, for the reason.
        found = answers(cluster, client, url, 1)
    return found


def udp_answers(cluster, client, ip):
    """A UDP question through the Service."""
    command = f"echo hostname | nc -u -w 2 {ip} 81"
    said = cluster.in_pod(NAMESPACE, client, "sh", "-c", command)
    if not said.startswith("web-"):
        raise Failed(f"{client}: {said!r} over UDP from {ip}")


def name_resolves(cluster, client):
    """A question to the cluster's DNS, by the address that kubelet gave the pod."""
    name = f"web.{NAMESPACE}.svc.cluster.local"
    said = cluster.in_pod(NAMESPACE, client, "dig", "+short", "+tries=1", "+time=3", name)
    if said != cluster_ip(cluster):
        raise Failed(f"{client}: {name} is {said!r}")


@dataclasses.dataclass
class Count:
    """What `load` counted."""

    ok: int = 0
    failed: int = 0
    unsent: int = 0
    slowest: float = 0.0
    causes: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, text):
        """From its output: a line with the figures, then one for each cause. Several outputs are summed."""
        count = cls()
        for line in text.splitlines():
            if found := re.search(r"(\d+) ok, (\d+) failed, slowest (\S+), (\d+) not sent", line):
                count.ok += int(found[1])
                count.failed += int(found[2])
                count.slowest = max(count.slowest, seconds(found[3]))
                count.unsent += int(found[4])
            elif found := re.match(r"\s+(\d+) x (.*)", line):
                cause = short_cause(found[2])
                count.causes[cause] = count.causes.get(cause, 0) + int(found[1])
        return count

    def __add__(self, other):
        causes = dict(self.causes)
        for cause, number in other.causes.items():
            causes[cause] = causes.get(cause, 0) + number
        return Count(self.ok + other.ok, self.failed + other.failed, self.unsent + other.unsent, max(self.slowest, other.slowest), causes)

    @property
    def sent(self):
        """Requests that were sent."""
        return self.ok + self.failed

    def __str__(self):
        causes = "".join(f"; {number} x {cause}" for cause, number in sorted(self.causes.items()))
        return f"{self.failed} of {self.sent} failed, slowest {self.slowest:.1f} s, {self.unsent} not sent{causes}"


def seconds(duration):
    """Go's duration: 1m2.5s, 310ms."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|µs|ns|h|m|s)", duration))


def short_cause(message):
    """A failure's kind, without the address."""
    kinds = (
        "connection refused|closed network connection|connection reset|EOF|broken pipe|no such host|i/o timeout|Timeout|deadline|no route|unreachable"
    )
    found = re.search(kinds, message)
    kind = found[0] if found else message[-60:]
    if kind in ("i/o timeout", "Timeout", "deadline"):
        kind = "timeout"
    return f"lookup, {kind}" if "lookup" in message else kind


def load_everywhere(cluster, length, rate=100):
    """Starts four clients of the Service: on each node, with a connection for each request and with kept ones."""
    names = []
    for node in NODES:
        for mode, words in (("new", []), ("keep", ["-keep"])):
            name = f"load-{mode}-{node}"
            cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--ignore-not-found", "--grace-period=0", "--force")
            cluster.load(NAMESPACE, name, node, "http://web/hostname", rate, length, *words)
            names.append(name)
    return names


def counted(cluster, names, patience):
    """What these clients counted, once they have ended."""
    return {name: Count.read(cluster.ended_pod(NAMESPACE, name, patience)) for name in names}


def from_outside(cluster, node, port):
    """A request from the control plane's machine, which is no node, to a port of a node."""
    said = cluster.enter("cp", "curl", "-sS", "--max-time", "5", f"http://{node_ip(node)}:{port}/hostname").stdout.strip()
    if not said:
        raise Failed(f"no answer on {node}:{port}")
    return said
