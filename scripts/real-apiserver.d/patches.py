"""Every field that has a meaning, patched: what a client sees 100 ms later.

Each patch is the object, the patch, and what must then hold, as (test, where) pairs. The older apiserver does not know ipMode
and internalTrafficPolicy and drops them; tests/pipeline.rs patches these.
"""

import time

from world import CORE, NODE, NODE_IP, Wrong, endpoint, expect, soon

VIP, NODE_PORT, HEALTH = "10.96.0.60", f"{NODE_IP}:30060", 30070
SERVICE = f"{CORE}/services/field"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/field-1"


class Tests:
    """The tests that patches name, beside those of the world."""

    def __init__(self, world):
        self.world = world

    def holds(self, test, *where):
        """Runs one."""
        own = getattr(self, test, None)
        (own or getattr(self.world, test))(*where)

    def blue(self, host):
        """Only blue answers."""
        self.world.only("blue", host)

    def green(self, host):
        """Only green answers."""
        self.world.only("green", host)

    def one(self, host):
        """The same backend answers whoever asks."""
        found = self.world.answered(f"http://{host}/", 12)
        expect(len(found) == 1, f"{host}: {found}")

    def says(self, code, port, path=""):
        """A health server's answer."""
        done = self.world.fetch("-o", "/dev/null", "-w", "%{http_code}", f"http://{NODE_IP}:{port}/{path}")
        expect(done.stdout == str(code), f":{port}/{path} says {done.stdout}, not {code}")

    def new_endpoint_after_the_timeout(self):
        """An affinity of one second ends."""
        # The rotation goes on where an entry has run out, so that three more rounds cannot all be the same.
        who = set()
        for _ in range(3):
            time.sleep(1.1)
            who |= set(self.world.requests(f"http://{VIP}/", 1))
        expect(who == {"blue", "green"}, f"a timeout of 1 s does not end it: {who}")

    def two_local_endpoints(self):
        """The healthCheckNodePort says how many."""
        answer = self.world.fetch("-i", f"http://{NODE_IP}:{HEALTH}/").stdout
        expect("\nX-Load-Balancing-Endpoint-Weight: 2" in answer and '"localEndpoints": 2,' in answer, answer)


def spec(*tests, **fields):
    """A patch of the Service's spec."""
    return SERVICE, {"spec": fields}, tests


def ingress(value, *tests):
    """A patch of its status."""
    return f"{SERVICE}/status", {"status": {"loadBalancer": {"ingress": value}}}, tests


def label(path, name, value, *tests):
    """A patch of a label; None removes it."""
    return path, {"metadata": {"labels": {name: value}}}, tests


def endpoints(of, *tests):
    """A patch of the slice's endpoints."""
    return SLICE, {"endpoints": of}, tests


def zone(value, *tests):
    """A patch of the Node's zone."""
    return label(NODE, "topology.kubernetes.io/zone", value, *tests)


def port(number, node_port):
    """The Service's only port."""
    return [{"name": "http", "port": number, "nodePort": node_port}]


def conditions(ready, serving=None, terminating=None):
    """An endpoint's."""
    found = {"ready": ready, "serving": serving, "terminating": terminating}
    return {name: value for name, value in found.items() if value is not None}


def hint(name):
    """An endpoint's zone hint."""
    return {"forZones": [{"name": name}]}


BOTH, AT_NODE, REFUSED = ("both", VIP), ("both", NODE_PORT), ("refused", VIP)
NOT_READY, LEAVING, GONE = conditions(False), conditions(False, True, True), conditions(False, False, True)
HERE, THERE = "node-1", "node-2"
PROXY_NAME, HEADLESS, OWNER = "service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless", "kubernetes.io/service-name"
TAINT = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]


def on_nodes(first, second):
    """Both endpoints, and where they are."""
    return [endpoint(11, nodeName=first), endpoint(12, nodeName=second)]


PATCHES = {
    "ports and nodePort": [
        spec(("both", f"{VIP}:81"), ("refused", f"{VIP}:80"), AT_NODE, ports=port(81, 30060)),
        spec(BOTH, ("refused", f"{VIP}:81"), ("both", f"{NODE_IP}:30061"), ("refused", NODE_PORT), ports=port(80, 30061)),
        spec(BOTH, AT_NODE, ports=port(80, 30060)),
    ],
    "externalIPs, ingress, loadBalancerSourceRanges": [
        spec(("both", "192.0.2.80"), externalIPs=["192.0.2.80"]),
        spec(("both", "192.0.2.81"), ("unreachable", "192.0.2.80"), externalIPs=["192.0.2.81"]),
        spec(("unreachable", "192.0.2.81"), externalIPs=None),
        ingress([{"ip": "192.0.2.90"}], ("both", "192.0.2.90")),
        spec(("silent", "192.0.2.90"), AT_NODE, BOTH, loadBalancerSourceRanges=["198.51.100.0/24"]),
        spec(("both", "192.0.2.90"), loadBalancerSourceRanges=["198.51.100.0/24", "10.77.1.0/24"]),
        spec(("both", "192.0.2.90"), loadBalancerSourceRanges=None),
        ingress(None, ("unreachable", "192.0.2.90")),
    ],
    "sessionAffinity and its timeout": [
        spec(("one", VIP), sessionAffinity="ClientIP"),
        spec(("one", VIP), sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}),
        spec(("new_endpoint_after_the_timeout",), sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}),
        spec(BOTH, sessionAffinity="None", sessionAffinityConfig=None),
    ],
    "labels of Service and slice": [
        label(SERVICE, PROXY_NAME, "other", REFUSED, ("refused", NODE_PORT)),
        label(SERVICE, PROXY_NAME, None, BOTH),
        label(SLICE, HEADLESS, "", REFUSED),
        label(SLICE, HEADLESS, None, BOTH),
        label(SLICE, OWNER, "other", REFUSED),
        label(SLICE, OWNER, "field", BOTH),
    ],
    "conditions": [
        endpoints([endpoint(11, conditions=NOT_READY), endpoint(12)], ("green", VIP)),
        endpoints([endpoint(11, conditions=LEAVING), endpoint(12)], ("green", VIP)),
        endpoints([endpoint(11, conditions=LEAVING), endpoint(12, conditions=GONE)], ("blue", VIP)),
        endpoints([endpoint(11, conditions=GONE), endpoint(12, conditions=GONE)], REFUSED),
        endpoints([endpoint(11), endpoint(12)], BOTH),
    ],
    "hints, and the Node's zone": [
        zone("a", BOTH),
        endpoints([endpoint(11, hints=hint("a")), endpoint(12, hints=hint("b"))], ("blue", VIP)),
        zone("b", ("green", VIP)),
        zone(None, BOTH),
        zone("b", ("green", VIP)),
        endpoints([endpoint(11), endpoint(12, hints=hint("b"))], BOTH),
    ],
    "nodeName, externalTrafficPolicy, healthCheckNodePort": [
        endpoints(on_nodes(HERE, THERE), BOTH, AT_NODE),
        spec(("blue", NODE_PORT), BOTH, ("says", 200, HEALTH), externalTrafficPolicy="Local", healthCheckNodePort=HEALTH),
        endpoints(on_nodes(THERE, HERE), ("green", NODE_PORT), ("says", 200, HEALTH)),
        endpoints(on_nodes(THERE, THERE), ("silent", NODE_PORT), ("says", 503, HEALTH), BOTH),
        endpoints([endpoint(11, conditions=NOT_READY, nodeName=HERE), endpoint(12, nodeName=THERE)], ("says", 503, HEALTH)),
        endpoints([], ("says", 503, HEALTH), REFUSED),
        endpoints(on_nodes(HERE, HERE), ("says", 200, HEALTH), AT_NODE, ("two_local_endpoints",)),
        spec(("refused", f"{NODE_IP}:{HEALTH}"), AT_NODE, externalTrafficPolicy="Cluster", healthCheckNodePort=None),
        spec(("says", 200, 30071), ("refused", f"{NODE_IP}:{HEALTH}"), externalTrafficPolicy="Local", healthCheckNodePort=30071),
        spec(("refused", f"{NODE_IP}:30071"), externalTrafficPolicy="Cluster", healthCheckNodePort=None),
    ],
    "the Node's taint": [
        (NODE, {"spec": {"taints": TAINT}}, (("says", 503, 10256, "healthz"), ("says", 200, 10256, "livez"))),
        (NODE, {"spec": {"taints": None}}, (("says", 200, 10256, "healthz"), ("says", 200, 10256, "livez"))),
    ],
    "type": [
        spec(BOTH, ("refused", NODE_PORT), type="ClusterIP", ports=[{"name": "http", "port": 80, "nodePort": None}]),
        spec(REFUSED, type="ExternalName", externalName="example.org", clusterIP=""),
    ],
}


def begin(world):
    """A Service and its Node to begin with, and again after whatever went wrong before."""
    world.put("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": HERE}})
    world.service("field", VIP, type="LoadBalancer", ports=port(80, 30060))
    world.endpoints("field", 8080, 11, 12)
    soon(5, world.both, VIP)


def play(world, patches):
    """One after the other; 100 ms after each, all that it names holds."""
    begin(world)
    tests = Tests(world)
    for path, patch, expected in patches:
        expect(world.api("PATCH", path, patch) is not None, f"the apiserver refuses {patch}")
        time.sleep(0.1)
        for test in expected:
            try:
                tests.holds(*test)
            except Wrong as wrong:
                raise Wrong(f"after {patch}: {wrong}") from wrong


def end(world):
    """Removes them."""
    world.kube("delete", "service", "field", "--wait=false")
    world.api("DELETE", SLICE)
