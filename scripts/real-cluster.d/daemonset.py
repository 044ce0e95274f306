"""scripts/deploy on the cluster, as its pages say: the image, the DaemonSet, its update under load, its rights, its end."""

import json
import os
import pathlib
import re
import signal
import sys

import application as app
import network
from kubernetes import APISERVER_PORT, CONTROL_PLANE, NODES
from lab import Failed, eventually, run

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = SCRIPTS / "deploy"
LABEL = "app.kubernetes.io/name=portico"
ACCOUNT = "system:serviceaccount:kube-system:portico"
# What a user is told to set in daemonset.yaml, and this cluster's values.
SETTINGS = {
    "image: portico:0.1.0": "image: {image}",
    "value: 192.168.1.10": f"value: {CONTROL_PLANE}",
    'value: "6443"': f'value: "{APISERVER_PORT}"',
    "--cluster-cidr=10.244.0.0/16": "--cluster-cidr=10.77.0.0/16",
}

CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "SYS_ADMIN": 21}


def image(number):
    """An image's name."""
    return f"docker.io/library/portico:check-{number}"


def import_images(cluster, numbers=(1, 2)):
    """Builds images that differ by a label, and gives them to both nodes."""
    for number in numbers:
        file = cluster.folder / f"portico-{number}.tar"
        run(sys.executable, SCRIPTS / "image", file, "--tag", image(number), "--portico", cluster.portico, "--label", f"check={number}")
        for node in NODES:
            cluster.enter(node, "ctr", "-n", "k8s.io", "images", "import", file)
    return f"{file.stat().st_size >> 10} KiB"


def manifest():
    """daemonset.yaml with this cluster's settings."""
    text = (DEPLOY / "daemonset.yaml").read_text()
    for placeholder, value in SETTINGS.items():
        if placeholder not in text:
            raise Failed(f"daemonset.yaml has no {placeholder!r} to replace")
        text = text.replace(placeholder, value.format(image=image(1)))
    return text


def applied(cluster):
    """It comes up, unprivileged, and serves."""
    cluster.proxy("none")
    cluster.apply((DEPLOY / "rbac.yaml").read_text(), "kube-system")
    cluster.apply(manifest(), "kube-system")
    cluster.rolled_out("kube-system", "daemonset/portico", 180)
    cluster.fresh_dns()
    network.every_way(cluster)
    if any(restarts(pod) for pod in portico_pods(cluster)):
        raise Failed("a container was started again without a reason")
    return portal(cluster)


def portico_pods(cluster):
    """Its pods."""
    return cluster.pods("kube-system", LABEL)


def portal(cluster):
    """Which portal each pod has, from its log."""
    found = set()
    for pod in portico_pods(cluster):
        log = cluster.kubectl("-n", "kube-system", "logs", pod["metadata"]["name"])
        found.update(re.findall(r"portal:? (netns|host|none)|(netns|host) portal", log))
    return "portal " + ", ".join(sorted({a or b for a, b in found}) or ["unknown"])


def unprivileged(cluster):
    """No privileged container; the capabilities of the manifest and no others, as the kernel has them."""
    for pod in portico_pods(cluster):
        context = pod["spec"]["containers"][0]["securityContext"]
        if context.get("privileged"):
            raise Failed("a container is privileged")
        added = context["capabilities"]["add"]
        status = pathlib.Path(f"/proc/{process(pod)}/status").read_text()
        mask = int(re.search(r"CapBnd:\s+(\w+)", status)[1], 16)
        if mask != sum(1 << CAPABILITIES[name] for name in added):
            raise Failed(f"capabilities {mask:x}, the manifest adds {', '.join(added)}")
    return ", ".join(added)


def process(pod):
    """The process of a pod's only container, as this machine sees it."""
    pids = processes_of(pod["metadata"]["uid"])
    found = [pid for pid in pids if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "pause"]
    if not found:
        raise Failed(f"pod {pod['metadata']['name']} has no process")
    return found[0]


def processes_of(uid):
    """The processes of a pod, by its cgroups."""
    found = []
    for cgroup in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if uid in cgroup.read_text():
                found.append(int(cgroup.parent.name))
        except OSError:
            pass
    return sorted(found)


def probes(cluster):
    """A container that does nothing any more is started again; one that works is not."""
    pod = portico_pods(cluster)[0]
    before = restarts(pod)
    probe = pod["spec"]["containers"][0]["livenessProbe"]
    os.kill(process(pod), signal.SIGSTOP)
    patience = probe["periodSeconds"] * (probe["failureThreshold"] + 2) + pod["spec"]["terminationGracePeriodSeconds"] + 30

    def restarted():
        same = [other for other in portico_pods(cluster) if other["metadata"]["uid"] == pod["metadata"]["uid"]]
        return any(restarts(other) > before for other in same)

    if not eventually(restarted, patience, 0.5):
        raise Failed(f"a stopped portico is not started again within {patience} s")
    cluster.rolled_out("kube-system", "daemonset/portico", 60)
    return "a stopped one was started again"


def restarts(pod):
    """How often a pod's container was started again."""
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


def updated_under_load(cluster, length=100):
    """A new image on every node, while clients go on: what they lost."""
    names = app.load_everywhere(cluster, length)
    before = portico_pods(cluster)[0]["spec"]["containers"][0]["image"]
    target = image(1) if before == image(2) else image(2)
    cluster.kubectl("-n", "kube-system", "set", "image", "daemonset/portico", f"portico={target}")
    cluster.rolled_out("kube-system", "daemonset/portico", 180)
    counts = app.counted(cluster, names, length + 60)
    total = sum(counts.values(), app.Count())
    if total.sent == 0 or total.ok < total.sent * 0.5:
        raise Failed(f"{total}")
    running = {pod["spec"]["containers"][0]["image"] for pod in portico_pods(cluster)}
    if running != {target}:
        raise Failed(f"{', '.join(running)} is running")
    return str(total)


def rights(cluster):
    """What rbac.yaml grants is what was asked for, and what was asked for was granted."""
    used, refused = set(), set()
    for line in cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        target = event.get("objectRef")
        if event["user"]["username"] != ACCOUNT or not target:
            continue
        right = (event["verb"], target.get("apiGroup", ""), target["resource"])
        used.add(right)
        if event.get("responseStatus", {}).get("code") == 403:
            refused.add(right)
    if refused:
        raise Failed(f"forbidden: {show(refused)}")
    granted = granted_rights(cluster)
    if missing := used - granted:
        raise Failed(f"used, but not granted: {show(missing)}")
    # A server of this age has no ServiceCIDRs: it is asked for them once.
    unused = {right for right in granted - used if right[2] != "servicecidrs"}
    if unused:
        raise Failed(f"granted, but not used: {show(unused)}")
    return show(used)


def granted_rights(cluster):
    """The rights in the ClusterRole that rbac.yaml binds."""
    bindings = cluster.get("clusterrolebindings")["items"]
    roles = [
        binding["roleRef"]["name"]
        for binding in bindings
        if any(subject.get("name") == "portico" and subject.get("namespace") == "kube-system" for subject in binding.get("subjects", []))
    ]
    rules = [rule for role in roles for rule in cluster.get("clusterrole", role)["rules"]]
    return {(verb, group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]}


def show(rights_):
    """Rights, in words."""
    return ", ".join(" ".join((verb, f"{resource}.{group}" if group else resource)) for verb, group, resource in sorted(rights_))


def deleted(cluster):
    """kubectl delete takes everything along."""
    cluster.kubectl("delete", "-n", "kube-system", "-f", "-", "--ignore-not-found", "--timeout", "90s", input=manifest())
    if not eventually(lambda: not cluster.get("-n", "kube-system", "pods", "-l", LABEL)["items"], 60, 0.5):
        raise Failed("its pods do not end")
    cluster.kubectl("delete", "--ignore-not-found", "-f", DEPLOY / "rbac.yaml")
    network.nothing_left(cluster, NODES)
