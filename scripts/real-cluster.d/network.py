"""The networks that pods may have: point-to-point links and bridges, hostNetwork, hostPort; pods and nodes that come and go."""

import json
import os
import subprocess as sp
import time

import application as app
from kubernetes import NODES, inner, node_ip, running
from lab import Failed, eventually, run

# The bridge plugin as flannel and k3s configure it. It masquerades nothing here: the pod network is routed.
PLUGINS = {
    "ptp": {"type": "ptp", "ipMasq": False},
    "bridge": {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "forceAddress": True, "hairpinMode": True, "ipMasq": False},
}


def use_plugin(cluster, plugin, mtu):
    """New pods get this plugin's network, with this MTU; those of the cluster's DNS are made again."""
    for node in NODES:
        ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.77.{node[1:]}.0/24"}]]}
        if plugin == "ptp":
            # A bridge that is the default gateway sees to the route itself.
            ipam["routes"] = [{"dst": "0.0.0.0/0"}]
        main = PLUGINS[plugin] | {"mtu": mtu, "ipam": ipam}
        # One name for all: an address is in one list of those that are taken.
        config = {"cniVersion": "0.4.0", "name": "pods", "plugins": [main, {"type": "portmap", "capabilities": {"portMappings": True}}]}
        (cluster.folder / node / "etc/cni/net.d/10-ptp.conflist").write_text(json.dumps(config))
    # containerd looks when the folder changes.
    time.sleep(2)
    cluster.fresh_dns()


def every_way(cluster):
    """Every kind of client to every kind of endpoint, TCP and UDP, by address and by name."""
    clients = [f"{kind}-{node}" for kind in ("client", "host") for node in NODES]
    web, on_host = app.cluster_ip(cluster), app.cluster_ip(cluster, "on-host")
    for client in clients:
        app.reached(cluster, client, f"http://{web}/hostname")
        found = app.answers(cluster, client, f"http://{web}/hostname")
        if len(found) != 3:
            raise Failed(f"{client}: {', '.join(found)} answered, not all three pods")
        app.answers(cluster, client, f"http://{on_host}/hostname", 3)
        app.udp_answers(cluster, client, web)
        app.name_resolves(cluster, client)
        for node in NODES:
            app.answers(cluster, client, f"http://{node_ip(node)}:{app.NODE_PORT}/hostname", 3)
    return f"{len(clients)} kinds of clients"


def outside(cluster):
    """Node ports and a hostPort, from a machine that is no node."""
    for node in NODES:
        app.from_outside(cluster, node, app.NODE_PORT)
    said = app.from_outside(cluster, NODES[1], app.HOST_PORT)
    if said != "with-port":
        raise Failed(f"{said} answers on the hostPort")


def hairpin(cluster):
    """A pod reaches itself through its Service."""
    pod = cluster.pods(app.NAMESPACE, "app=web")[0]["metadata"]["name"]
    found = app.answers(cluster, pod, f"http://{app.cluster_ip(cluster)}/hostname")
    if pod not in found:
        raise Failed(f"{pod} does not reach itself: {', '.join(found)} answered")


def bulk(cluster):
    """Some megabytes each way: what an MTU that nobody agreed on would stop."""
    ip, mib = app.cluster_ip(cluster), 8
    for client in (f"client-{node}" for node in NODES):
        command = (
            f"head -c {mib << 20} /dev/zero | curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} %{{size_upload}}' -F file=@- http://{ip}/upload"
        )
        code, size = cluster.in_pod(app.NAMESPACE, client, "sh", "-c", command).split()
        if code != "201" or int(size) < mib << 20:
            raise Failed(f"{client}: status {code} after {size} bytes up")
        size = app.fetch(cluster, client, f"http://{ip}/echo?msg={'x' * 6000}", "-o", "/dev/null", "-w", "%{size_download}")
        if int(size) < 6000:
            raise Failed(f"{client}: {size} of 6000 bytes down")


def mtu_is(cluster, mtu):
    """The interface of a pod has it."""
    said = cluster.in_pod(app.NAMESPACE, f"client-{NODES[0]}", "cat", "/sys/class/net/eth0/mtu")
    if said != str(mtu):
        raise Failed(f"the pod's MTU is {said}")


def late_proxy(cluster, flags):
    """Pods that start while no proxy runs work as soon as one does."""
    cluster.proxy("none")
    name = "early"
    cluster.kubectl("-n", app.NAMESPACE, "delete", "pod", name, "--ignore-not-found")
    ip = app.cluster_ip(cluster)
    command = f'args: ["-c", "until curl -sS --max-time 1 http://{ip}/hostname; do sleep 0.2; done"]'
    cluster.apply(
        app.pod(name, NODES[1], f", command: [sh], {command}", restartPolicy="Never").replace("  restartPolicy: Always\n", ""), app.NAMESPACE
    )
    waiting = eventually(lambda: "timed out" in cluster.kubectl("-n", app.NAMESPACE, "logs", name, check=False), 60, 0.5)
    cluster.proxy("portico", flags, fresh=False)
    began = time.monotonic()
    said = cluster.ended_pod(app.NAMESPACE, name, 30)
    took = time.monotonic() - began
    cluster.kubectl("-n", app.NAMESPACE, "delete", "pod", name, "--wait=false")
    cluster.fresh_dns()
    if not waiting or "web-" not in said.splitlines()[-1]:
        raise Failed(f"the pod says: {said[-200:]}")
    return f"{took:.1f} s after the proxy's start"


def node_leaves(cluster, node=NODES[1]):
    """A node dies and is removed: clients of the others notice at most a slow connection. Returns how it is started again."""
    pid = int((cluster.folder / f"node-{node}.pid").read_text())
    proxy = cluster.proxy_pid(node)
    for program in (proxy, inner(pid)):
        os.kill(program, 9)
    if not eventually(lambda: not running(pid), 30):
        raise Failed(f"{node} does not end")
    ip, client = app.cluster_ip(cluster), f"client-{NODES[0]}"
    # Its pods do not answer, and nobody knows yet.
    began = time.monotonic()
    app.answers(cluster, client, f"http://{ip}/hostname", 6)
    slow = time.monotonic() - began
    cluster.kubectl("delete", "node", node)

    def moved():
        found = cluster.pods(app.NAMESPACE, "app=web")
        return len(found) == 3 and all(pod["spec"].get("nodeName") == NODES[0] for pod in found)

    if not eventually(moved, 180, 1):
        raise Failed("the pods of the node that left are not made again")
    cluster.rolled_out(app.NAMESPACE, "deployment/web")
    began = time.monotonic()
    app.answers(cluster, client, f"http://{ip}/hostname")
    return f"6 requests while two endpoints of three, say, are black holes: {slow:.1f} s; 12 after it is known: {time.monotonic() - began:.1f} s"


def node_joins(cluster, flags, node=NODES[1]):
    """The node comes back as a new one, with a proxy; its pods reach the Service."""
    start_node(cluster, node)
    cluster.proxy("portico", flags)

    def ready():
        found = cluster.kubectl("get", "node", node, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}', check=False)
        return found == "True"

    if not eventually(ready, 120, 0.5):
        raise Failed(f"{node} does not become ready")
    cluster.apply(app.helpers(), app.NAMESPACE)
    app.helpers_ready(cluster)
    ip = app.cluster_ip(cluster)
    app.reached(cluster, f"client-{node}", f"http://{ip}/hostname")
    app.name_resolves(cluster, f"client-{node}")


def start_node(cluster, node):
    """As the cluster's `up` does: cgroups of its own, then namespaces of its own."""
    script = """
      for c in /sys/fs/cgroup/*/; do
        mkdir -p "$c/rc-$2"
        for f in cpuset.cpus cpuset.mems; do if [ -f "$c$f" ]; then cat "$c$f" >"$c/rc-$2/$f"; fi; done
        echo $$ >"$c/rc-$2/cgroup.procs"
      done
      exec ip netns exec "rc-$2" unshare --mount --uts --cgroup --pid --fork --kill-child --mount-proc "$4/node" "$1" "$2" "$3"
    """
    with open(cluster.folder / node / "node.log", "ab") as log:
        words = ["bash", "-c", script, "node", cluster.folder, node, cluster.assets, cluster.scripts]
        process = sp.Popen([str(word) for word in words], cwd=cluster.folder, stdin=sp.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (cluster.folder / f"node-{node}.pid").write_text(f"{process.pid}\n")
    cluster.proxies = None
    if not eventually(lambda: cluster.enter(node, "test", "-S", "/run/containerd/containerd.sock", check=False).returncode == 0, 60, 0.2):
        raise Failed(f"{node} does not start")


def nothing_left(cluster, nodes):
    """No link, route or rule of portico's, no process."""
    for node in nodes:
        left = [
            cluster.enter(node, "ip", "-o", "link", "show", "vethportico", check=False).stdout,
            *(cluster.enter(node, "ip", family, "route", "show", "table", "all", "proto", "112", check=False).stdout for family in ("-4", "-6")),
            "".join(line for line in cluster.enter(node, "ip", "rule", "show").stdout.splitlines() if "proto 112" in line),
        ]
        if found := "".join(left).strip():
            raise Failed(f"left on {node}: {found[:300]}")
    if found := run("pgrep", "-a", "-f", "^/portico ", check=False).stdout:
        raise Failed(f"still runs: {found}")
