"""The cluster of ../shared/real-cluster: two nodes with kubelets and containers, in namespaces of this machine.

Its scripts start and stop it; here is what the checks do with it in between.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess as sp
import threading
import time

from lab import Failed, eventually, run

CONTROL_PLANE = "172.30.77.1"
APISERVER_PORT = 20443
NODES = ("n1", "n2")
AGNHOST = "k8s.gcr.io/e2e-test-images/agnhost:2.21"
LOAD = "docker.io/test/load:1"
# Every request of service proxies, without its content: what rights they use.
AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:kube-system:portico", "system:kube-proxy"]}
- {level: None}
"""


def node_ip(node):
    """The address of a node, or of the control plane."""
    return CONTROL_PLANE if node == "cp" else f"172.30.77.1{node[1:]}"


class Cluster:
    """A cluster that runs, or is to run, with its state below `folder`."""

    def __init__(self, folder, scripts, portico):
        self.folder, self.scripts, self.portico = pathlib.Path(folder), pathlib.Path(scripts), portico
        self.assets = None
        self.supervised = []
        # What runs as the service proxy: a kind and its flags; None if that is not known.
        self.proxies = None

    def install(self):
        """Builds what is missing; minutes the first time."""
        if os.geteuid() != 0:
            raise Failed("a cluster needs root")
        if not (self.scripts / "install").exists():
            raise Failed(f"{self.scripts} has no install: set --real-cluster")
        said = run(self.scripts / "install", stdin=sp.DEVNULL).stdout
        self.assets = pathlib.Path(said.strip().splitlines()[-1])

    def up(self, flags=""):
        """Starts everything, portico with these flags, and waits until nodes and DNS are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        audit = f"--audit-policy-file {policy} --audit-log-path {self.audit_log}"
        environment = {"PORTICO": str(self.portico), "PORTICO_FLAGS": flags, "APISERVER_FLAGS": audit}
        # What it starts keeps the output open.
        with open(self.folder / "up.log", "wb") as log:
            done = sp.run(
                [self.scripts / "up", self.folder, str(APISERVER_PORT)],
                env=os.environ | environment,
                stdin=sp.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if done.returncode:
            raise Failed(f"the cluster does not start: {(self.folder / 'up.log').read_text().strip()[-600:]}")
        self.proxies = ("portico", flags)

    def is_up(self):
        """Whether an earlier run left it running."""
        file = self.folder / "apiserver.pid"
        return file.exists() and running(int(file.read_text()))

    def down(self):
        """Stops everything; the logs stay, and nothing else that is large."""
        self.unsupervise()
        run(self.scripts / "down", self.folder, check=False)
        for large in [self.folder / "etcd", self.folder / "images.tar", *self.folder.glob("n?/var/lib")]:
            if large.is_dir():
                shutil.rmtree(large, ignore_errors=True)
            else:
                large.unlink(missing_ok=True)

    @property
    def audit_log(self):
        """Where the apiserver writes what service proxies ask it."""
        return self.folder / "audit.log"

    # --- inside

    def kubectl(self, *words, **options):
        """Runs kubectl as the administrator; its output."""
        kubectl = ["ip", "netns", "exec", "rc-cp", self.assets / "kubectl", "--kubeconfig", self.folder / "admin.kubeconfig"]
        return run(*kubectl, *words, **options).stdout.strip()

    def get(self, *words):
        """Objects, as the API has them."""
        return json.loads(self.kubectl("get", "-o", "json", *words))

    def apply(self, manifest, namespace="default"):
        """Applies YAML."""
        self.kubectl("-n", namespace, "apply", "-f", "-", input=manifest)

    def enter(self, node, *words, **options):
        """Runs a command inside a node, or on the control plane."""
        inside = ["ip", "netns", "exec", "rc-cp"] if node == "cp" else [self.scripts / "enter", self.folder, node]
        return run(*inside, *words, **options)

    def in_pod(self, namespace, pod, *words, **options):
        """Runs a command in a pod; its output."""
        return self.kubectl("-n", namespace, "exec", pod, "--", *words, **options)

    def pods(self, namespace, selector):
        """The pods that a selector finds and that are not ending."""
        found = self.get("-n", namespace, "pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def rolled_out(self, namespace, what, seconds=120):
        """Waits until a Deployment or DaemonSet is what its spec says."""
        self.kubectl("-n", namespace, "rollout", "status", what, "--timeout", f"{seconds}s")

    def ended_pod(self, namespace, pod, seconds):
        """Waits for a pod that ends by itself; what it wrote."""

        def ended():
            return self.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.phase}") in ("Succeeded", "Failed")

        if not eventually(ended, seconds, 0.5):
            raise Failed(f"pod {pod} does not end within {seconds} s")
        return self.kubectl("-n", namespace, "logs", pod)

    def load(self, namespace, name, node, url, rate, seconds, *words, host_network=False):
        """Starts a pod that sends requests at a steady rate and counts what fails."""
        overrides = {"spec": {"nodeName": node, "hostNetwork": host_network}}
        if host_network:
            overrides["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet"
        arguments = ["-url", url, "-rate", rate, "-seconds", seconds, *words]
        self.kubectl("-n", namespace, "run", name, "--image", LOAD, "--restart", "Never", "--overrides", json.dumps(overrides), "--", *arguments)

    # --- the service proxy

    def proxy(self, kind, flags="", fresh=True):
        """Ends the service proxies, and starts others everywhere, if these are not there already."""
        if self.proxies == (kind, flags) and not self.supervised:
            return
        self.unsupervise()
        environment = os.environ | {"PORTICO": str(self.portico), "PORTICO_FLAGS": flags}
        with open(self.folder / "proxy.log", "ab") as log:
            done = sp.run([self.scripts / "proxy", self.folder, kind], env=environment, stdin=sp.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            raise Failed(f"the service proxies do not start: {(self.folder / 'proxy.log').read_text().strip()[-400:]}")
        self.proxies = (kind, flags)
        if kind != "none" and fresh:
            self.fresh_dns()

    def fresh_dns(self):
        """Starts the cluster's DNS anew: its watches went by the proxy that ended, and it may take a minute to notice."""
        self.kubectl("-n", "kube-system", "rollout", "restart", "deployment/cluster-dns")
        self.rolled_out("kube-system", "deployment/cluster-dns")

    def supervise(self, kind, flags=()):
        """Ends the service proxies, and starts others that a service manager of ours starts again a second after their end."""
        self.proxy("none")
        self.start_supervised(kind, flags)

    def start_supervised(self, kind, flags=()):
        """Starts service proxies everywhere, whoever else runs."""
        common = ["--kubeconfig", self.folder / "proxy.kubeconfig", "--cluster-cidr", "10.77.0.0/16"]
        if kind == "portico":
            command = [self.portico, *common, "--drain-timeout", "5s", *flags]
        else:
            own = "--proxy-mode iptables --oom-score-adj 0 --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0"
            command = [self.assets / "kube-proxy", *common, *own.split(), "--conntrack-tcp-timeout-close-wait", "0"]
        for node in ("cp", *NODES):
            control = ["--control-socket", self.folder / "cp" / "control.sock"] if (kind, node) == ("portico", "cp") else []
            self.supervised.append(Supervised(self, node, kind, [*command, "--hostname-override", node, *control]))

    def end_supervised(self):
        """Ends them; what they leave in the kernel stays. Returns them."""
        gone, self.supervised = self.supervised, []
        for supervised in gone:
            supervised.close()
        return gone

    def clean_up(self, gone):
        """Removes what kube-proxy leaves."""
        for supervised in gone:
            if supervised.kind == "kube-proxy":
                self.enter(supervised.node, self.assets / "kube-proxy", "--cleanup", check=False)

    def unsupervise(self):
        """Ends them, and removes what they leave."""
        self.clean_up(self.end_supervised())

    def proxy_pid(self, node):
        """The process of the service proxy of a node, by the pid that this machine knows it by."""
        for supervised in self.supervised:
            if supervised.node == node:
                return supervised.pid()
        outer = int((self.folder / f"proxy-{node}.pid").read_text())
        return inner(outer)

    # --- what comes and goes

    def restart_apiserver(self, away=0.0):
        """Kills the apiserver, and starts it again as it was."""
        pid = int((self.folder / "apiserver.pid").read_text())
        words = [word.decode() for word in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not running(pid), 10)
        time.sleep(away)

        def ready():
            # It gives up by itself when the machine is too busy for its start.
            if not self.is_up():
                self.start_apiserver(words)
            return self.kubectl("get", "--raw", "/readyz", check=False) == "ok"

        if not eventually(ready, 180, 0.5):
            raise Failed("the apiserver does not come back")

    def start_apiserver(self, words):
        """Starts it with these words."""
        with open(self.folder / "apiserver.log", "ab") as log:
            command = ["ip", "netns", "exec", "rc-cp", *words]
            again = sp.Popen(command, cwd=self.folder, stdin=sp.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        threading.Thread(target=again.wait, daemon=True).start()
        (self.folder / "apiserver.pid").write_text(f"{again.pid}\n")


class Supervised:
    """A program on a node, started again whenever it ends."""

    def __init__(self, cluster, node, kind, command):
        self.cluster, self.node, self.kind = cluster, node, kind
        inside = ["ip", "netns", "exec", "rc-cp"] if node == "cp" else [cluster.scripts / "enter", cluster.folder, node]
        self.command = [str(word) for word in [*inside, *command]]
        self.starts, self.process, self.closing = 0, None, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with open(self.cluster.folder / self.node / f"{self.kind}.log", "ab") as log:
            while not self.closing:
                self.process = sp.Popen(self.command, stdin=sp.DEVNULL, stdout=log, stderr=log, start_new_session=True)
                self.starts += 1
                self.process.wait()
                if not self.closing:
                    time.sleep(1)

    def pid(self):
        """The program's own pid, behind what enters the node."""
        return inner(self.process.pid)

    def close(self):
        """Ends it for good."""
        self.closing = True
        if self.process and self.process.poll() is None:
            try:
                os.kill(self.pid(), signal.SIGTERM)
            except ProcessLookupError:
                pass
        self.thread.join(20)


def inner(pid):
    """The child of what enters a node, or the process itself."""
    try:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        raise Failed(f"process {pid} has ended") from None
    return int(children[0]) if children else pid


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
