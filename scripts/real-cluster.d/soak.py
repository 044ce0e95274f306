"""An application under steady load while everything around it goes wrong, and what its clients lost, by cause."""

import dataclasses
import os
import pathlib
import random
import re
import signal
import subprocess as sp
import threading
import time

import application as app
import lab
from kubernetes import AGNHOST, LOAD, NODES, node_ip
from daemonset import processes_of
from lab import Failed

ROUND = 5
# What happens, and every how many seconds; the first time after half of that.
EVERY = {"a pod rolls": 20, "a pod's program is killed": 44, "a pod is paused": 52, "the proxy is killed": 60}
PAUSE = 5
# A round of a client; DNS questions one after the other, a new port each.
HTTP_ROUND = f"/load -rate {{rate}} -seconds {ROUND} -url {{url}} {{words}}"
DNS_ROUND = f"""
ok=0 bad=0 until=$(($(date +%s) + {ROUND}))
while [ $(date +%s) -lt $until ]; do
  # dig says on its output, too, that nobody answered.
  case "$(dig +short +tries=1 +time=2 {{name}})" in [0-9]*) ok=$((ok + 1)) ;; *) bad=$((bad + 1)) ;; esac
  sleep 0.05
done
echo "$ok ok, $bad failed, slowest 0s, 0 not sent"
if [ $bad -gt 0 ]; then echo "  $bad x lookup timeout"; fi
"""


@dataclasses.dataclass
class Event:
    """Something that was done, and when."""

    at: float
    kind: str
    until: float


@dataclasses.dataclass
class Sample:
    """A proxy's figures at one moment."""

    files: int
    memory_kb: int


class Soak:
    """One run with one service proxy."""

    def __init__(self, cluster, seconds, kinds, seed=1):
        self.cluster, self.seconds, self.kinds, self.random = cluster, seconds, kinds, random.Random(seed)
        self.events, self.samples, self.stopping = [], {node: [] for node in NODES}, threading.Event()
        self.trouble = []

    # --- clients

    def start_clients(self, rate):
        """On each node: new and kept connections to the ClusterIP, new ones to the other node's node port, DNS."""
        manifests = []
        for number, node in enumerate(NODES):
            other = node_ip(NODES[1 - number])
            http = {
                "new": ("http://web/hostname", ""),
                "keep": ("http://web/hostname", "-keep"),
                "port": (f"http://{other}:{app.NODE_PORT}/hostname", ""),
            }
            for mode, (url, words) in http.items():
                manifests.append(self.client(f"soak-{mode}-{node}", node, LOAD, HTTP_ROUND.format(rate=rate, url=url, words=words)))
            manifests.append(self.client(f"soak-dns-{node}", node, AGNHOST, DNS_ROUND.format(name=f"web.{app.NAMESPACE}.svc.cluster.local")))
        self.cluster.apply("".join(manifests), app.NAMESPACE)
        self.address = app.cluster_ip(self.cluster)
        self.clients = [f"soak-{mode}-{node}" for mode in ("new", "keep", "port", "dns") for node in NODES]
        self.cluster.kubectl("-n", app.NAMESPACE, "wait", "pod", "-l", "role=soak", "--for", "condition=Ready", "--timeout", "120s")

    def client(self, name, node, image, a_round):
        """A pod that repeats a round until the end, and says when each began."""
        script = f"end=$(($(date +%s) + {self.seconds}))\nwhile [ $(date +%s) -lt $end ]; do\necho at $(date +%s)\n{a_round}\ndone"
        indented = script.replace("\n", "\n      ")
        return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{role: soak}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - name: main
    image: "{image}"
    command: [sh, -c]
    args:
    - |
      {indented}
"""

    def collect(self):
        """What each client counted, round by round: (client, when, count)."""
        rounds = []
        for client in self.clients:
            text = self.cluster.ended_pod(app.NAMESPACE, client, 60)
            for part in re.split(r"^at ", text, flags=re.M)[1:]:
                began, _, said = part.partition("\n")
                rounds.append((client, float(began), app.Count.read(said)))
        if not rounds:
            raise Failed("no client counted anything")
        return rounds

    # --- what goes wrong

    def act(self, kind):
        """Does one thing."""
        began = time.time()
        {
            "a pod rolls": self.roll,
            "a pod's program is killed": self.kill_pod,
            "a pod is paused": self.pause,
            "the proxy is killed": self.kill_proxy,
            "the apiserver restarts": lambda: self.cluster.restart_apiserver(2),
        }[kind]()
        self.events.append(Event(began, kind, time.time()))

    def some_pod(self):
        """One of the application's ready pods."""
        ready = [
            pod
            for pod in self.cluster.pods(app.NAMESPACE, "app=web")
            if all(s["ready"] for s in pod["status"].get("containerStatuses", [{"ready": False}]))
        ]
        return self.random.choice(ready) if ready else None

    def roll(self):
        """A pod is replaced, in good order."""
        if pod := self.some_pod():
            self.cluster.kubectl("-n", app.NAMESPACE, "delete", "pod", pod["metadata"]["name"], "--wait=false")

    def programs(self):
        """The processes of one pod's program."""
        pod = self.some_pod()
        found = processes_of(pod["metadata"]["uid"]) if pod else []
        return [pid for pid in found if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "agnhost"]

    def kill_pod(self):
        """An endpoint dies without notice; kubelet starts it again."""
        for pid in self.programs():
            os.kill(pid, signal.SIGKILL)

    def pause(self):
        """An endpoint hangs: its kernel accepts connections, and nobody answers."""
        pids = self.programs()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.stopping.wait(PAUSE)
        for pid in pids:
            if lab.alive(pid):
                os.kill(pid, signal.SIGCONT)

    def kill_proxy(self):
        """A node's service proxy dies, and is started again after a second; what is lost until it serves is of its doing."""
        node = self.random.choice(NODES)
        os.kill(self.cluster.proxy_pid(node), signal.SIGKILL)
        time.sleep(1)
        words = ["curl", "-s", "-o", "/dev/null", "--max-time", "1", f"http://{self.address}/hostname"]
        lab.eventually(lambda: self.cluster.enter(node, *words, check=False).returncode == 0, 120, 0.2)

    def repeat(self, kind, interval):
        """One thing, again and again."""
        wait = interval / 2
        while not self.stopping.wait(wait):
            began = time.monotonic()
            try:
                self.act(kind)
            except (Failed, OSError) as error:
                # The apiserver is away now and then.
                self.trouble.append(f"{kind}: {error}")
            wait = max(0.1, interval - (time.monotonic() - began))

    def sample(self):
        """Files and memory of the proxies, every few seconds."""
        while not self.stopping.wait(5):
            for node in NODES:
                try:
                    pid = self.cluster.proxy_pid(node)
                    self.samples[node].append(Sample(lab.open_files([pid]), lab.status_kb(pid, "VmRSS")))
                except (Failed, OSError, TypeError):
                    pass

    # --- all of it

    def run(self, rate=40):
        """The clients, and what goes wrong meanwhile."""
        self.start_clients(rate)
        intervals = {kind: EVERY[kind] for kind in self.kinds if kind in EVERY}
        if "the apiserver restarts" in self.kinds:
            # Twice.
            intervals["the apiserver restarts"] = self.seconds / 2
        threads = [threading.Thread(target=self.repeat, args=item) for item in intervals.items()]
        threads.append(threading.Thread(target=self.sample))
        for thread in threads:
            thread.start()
        # Nothing goes wrong in the last seconds, so that each event's effect is counted.
        self.stopping.wait(max(1, self.seconds - 8))
        self.stopping.set()
        for thread in threads:
            thread.join()
        return self.collect()


ALL_KINDS = (*EVERY, "the apiserver restarts")


@dataclasses.dataclass
class Result:
    """What came of a run."""

    name: str
    rounds: list
    events: list
    samples: dict
    log_lines: dict
    starts: dict

    def total(self, mode=None):
        """The sum over all clients, or over those of one mode."""
        return sum((count for client, _, count in self.rounds if mode in (None, client.split("-")[1])), app.Count())

    def by_event(self):
        """Failed requests, by what happened during their rounds."""
        found = {}
        for _, began, count in self.rounds:
            if count.failed:
                kinds = sorted({event.kind for event in self.events if event.at < began + ROUND + 1 and event.until > began - 1})
                name = " and ".join(kinds) or "nothing"
                found[name] = found.get(name, 0) + count.failed
        return found

    def lines(self):
        """The report."""
        yield f"{self.name}: {self.total()}"
        for mode, what in (("new", "new connections"), ("keep", "kept connections"), ("port", "node port"), ("dns", "DNS")):
            yield f"  {what}: {self.total(mode)}"
        for name, number in sorted(self.by_event().items(), key=lambda item: -item[1]):
            yield f"  failed while {name}: {number}"
        for kind in sorted({event.kind for event in self.events}):
            took = [event.until - event.at for event in self.events if event.kind == kind]
            yield f"  {kind} {len(took)} times, for {min(took):.1f} to {max(took):.1f} s"
        for node, samples in self.samples.items():
            if samples:
                files, memory = [s.files for s in samples], [s.memory_kb for s in samples]
                yield (
                    f"  {node}: open files {files[0]} to {files[-1]} (most {max(files)}), memory {memory[0] / 1024:.1f} to {memory[-1] / 1024:.1f} MB"
                    f" (most {max(memory) / 1024:.1f}), {self.log_lines[node]} lines of log, started {self.starts[node]} times"
                )


def log_lines(cluster, kind):
    """How many lines each node's proxy has written so far."""
    found = {}
    for node in NODES:
        log = pathlib.Path(cluster.folder / node / f"{kind}.log")
        found[node] = log.read_bytes().count(b"\n") if log.exists() else 0
    return found


def run(cluster, kind, seconds, kinds=ALL_KINDS, flags=(), seed=1):
    """The application, the proxy, the load; everything removed at the end."""
    cluster.supervise(kind, flags)
    app.start(cluster)
    try:
        app.reached(cluster, f"client-{NODES[0]}", f"http://{app.cluster_ip(cluster)}/hostname", 60)
        cluster.fresh_dns()
        before = log_lines(cluster, kind)
        soak = Soak(cluster, int(seconds), kinds, seed)
        rounds = soak.run()
        lines = {node: number - before[node] for node, number in log_lines(cluster, kind).items()}
        starts = {supervised.node: supervised.starts for supervised in cluster.supervised}
        name = " ".join([kind, *flags])
        return Result(name, rounds, soak.events, soak.samples, lines, starts)
    finally:
        cluster.unsupervise()
        try:
            app.stop(cluster)
        except (Failed, sp.SubprocessError):
            pass


def short(cluster, seconds):
    """For the regular run: endpoints roll and die, the apiserver restarts, portico lives."""
    kinds = [kind for kind in ALL_KINDS if kind not in ("the proxy is killed", "a pod is paused")]
    result = run(cluster, "portico", seconds, kinds)
    total = result.total()
    # A request that its endpoint had when it died is lost, whoever is in between.
    if total.failed > total.sent / 500:
        raise Failed("\n".join(result.lines()))
    return "\n      ".join(result.lines())
