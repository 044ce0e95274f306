"""portico takes kube-proxy's place on running nodes, and gives it back, in the order that deploy/kubeadm.md gives."""

import time

import application as app
from kubernetes import NODES
from lab import Failed, eventually

LENGTH = 60


def chains(cluster, node):
    """How many of kube-proxy's rules a node's kernel holds."""
    return sum("KUBE-S" in line for line in cluster.enter(node, "iptables-save").stdout.splitlines())


def to_portico(cluster, flags=()):
    """kube-proxy ends, its rules stay and serve; portico starts; the rules are removed, and portico serves."""
    cluster.supervise("kube-proxy")
    app.reached(cluster, f"client-{NODES[0]}", f"http://{app.cluster_ip(cluster)}/hostname", 60)
    clients = app.load_everywhere(cluster, LENGTH)
    time.sleep(5)
    gone = cluster.end_supervised()
    left = {node: chains(cluster, node) for node in NODES}
    if not all(left.values()):
        raise Failed(f"kube-proxy took its rules along: {left}")
    time.sleep(2)
    cluster.start_supervised("portico", flags)
    for node in NODES:
        wait_for_portico(cluster, node)
    cluster.clean_up(gone)
    return judged(cluster, clients)


def to_kube_proxy(cluster):
    """Back: kube-proxy starts, its rules win; then portico ends."""
    clients = app.load_everywhere(cluster, LENGTH)
    time.sleep(5)
    porticos, cluster.supervised = cluster.supervised, []
    cluster.start_supervised("kube-proxy")
    for node in NODES:
        if not eventually(lambda node=node: chains(cluster, node), 60, 0.5):
            raise Failed(f"kube-proxy writes no rules on {node}")
    time.sleep(2)
    for portico in porticos:
        portico.close()
    return judged(cluster, clients)


def wait_for_portico(cluster, node):
    """Its own answer to what it serves."""
    deadline = time.monotonic() + 30
    while cluster.enter(node, cluster.portico, "explain", f"{app.NAMESPACE}/web", check=False).returncode:
        if time.monotonic() > deadline:
            raise Failed(f"no portico answers on {node}")
        time.sleep(0.2)


def judged(cluster, clients):
    """What the clients lost: it may be little, and is said."""
    total = sum(app.counted(cluster, clients, LENGTH + 60).values(), app.Count())
    if total.ok < total.sent * 0.9:
        raise Failed(str(total))
    return str(total)
