"""What must hold, apart from the patches: each step takes the world, says what it found, or raises Wrong."""

import json
import os
import pathlib
import re
import signal
import threading
import time

import lab as labs
from world import BULK, CORE, DNS, DNS6, ENDPOINT, GONE, NODE, NODE_IP, NODE_PORT, WEB, WEB6, Wrong, expect, soon

DEPLOY = pathlib.Path(__file__).resolve().parent.parent / "deploy"


class Loop:
    """Something done again and again meanwhile; how often, and how often it went wrong."""

    def __init__(self, action, pause=0.0):
        self.action, self.pause, self.made, self.bad = action, pause, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        """Until the end."""
        while not self.ended.is_set():
            self.made += 1
            try:
                self.action()
            except Wrong:
                self.bad += 1
            time.sleep(self.pause)

    def end(self):
        """Waits for the last one."""
        self.ended.set()
        self.thread.join()


def back_to(what, before, after, slack):
    """A figure has come back to where it was."""
    expect(after <= before + slack, f"{what}: {before} before, {after} after")


# --- in every mode


def cluster_ip(world):
    """A ClusterIP is answered by both backends."""
    return world.both(WEB)


def node_port(world):
    """A NodePort is, too."""
    return world.both(f"{NODE_IP}:{NODE_PORT}")


def udp(world):
    """dig over UDP through port 53."""
    world.dns(DNS)


def six(world):
    """IPv6: a ClusterIP."""
    return world.both(f"[{WEB6}]")


def six_udp(world):
    """IPv6: dig."""
    world.dns(DNS6)


def endpoint_out(world):
    """An endpoint patched out gets nothing 100 ms later."""
    world.web(12)
    time.sleep(0.1)
    return world.only("green", WEB, 50)


def endpoint_in(world):
    """An endpoint patched in is used."""
    world.web(11, 12)
    soon(5, world.both, WEB)
    return world.both(WEB)


def service_deleted(world):
    """A Service deleted is refused."""
    world.kube("delete", "service", "gone", "--wait=false")
    soon(2, world.refused, f"{GONE}:80")
    time.sleep(2)
    world.refused(f"{GONE}:80")


# --- the newest API


def check(world):
    """check says that the portal works."""
    done = world.node.run(world.program, "check", check=False)
    expect(done.returncode == 0 and "would be used" in done.stdout, f"status {done.returncode}: {done.stdout}")
    return done.stdout.strip().splitlines()[-1]


def iperf(world, *flags):
    """iperf3, one stream."""
    done = world.client.run("iperf3", "-c", BULK, "-t", 1, "-f", "m", *flags, check=False)
    rates = re.findall(r"([\d.]+ \S+bits/sec).*receiver", done.stdout)
    expect(rates, done.stdout + done.stderr)
    return rates[-1]


def iperf_reverse(world):
    """iperf3, eight streams, reverse."""
    return iperf(world, "-P", 8, "-R")


def livez(world):
    """livez says that it lives."""
    done = world.fetch("-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:10256/livez", who=world.node)
    expect(done.stdout == "200", done.stdout + done.stderr)


def explains(world):
    """explain says what a connection gets."""
    done = labs.run(
        world.program, "explain", "--control-socket", world.socket, "--from", "10.77.1.2", "--to", f"{WEB}:80", "--output", "json", check=False
    )
    expect(done.returncode == 0, done.stderr)
    answer = json.loads(done.stdout)
    found = (answer["verdict"], answer["servicePort"], len(answer["endpoints"]))
    expect(found == ("endpoints", "default/web:http", 2), done.stdout)


def host_programs(world):
    """Host programs on the Services' ports, started before."""
    for who, url in ((world.node, "http://127.0.0.1:80/"), (world.client, f"http://{NODE_IP}:80/")):
        said = world.fetch(url, who=who).stdout.strip()
        expect(said == "host", f"the host's own program does not answer at {url}: {said}")
    world.both(WEB)
    world.refused(f"{WEB}:22")


def host_programs_again(world):
    """Host programs on the Services' ports, started after."""
    world.host_program()
    labs.eventually(lambda: world.fetch("http://127.0.0.1:80/", who=world.node).returncode == 0, 5)
    host_programs(world)


def dead(world, limit=0.5):
    """One of three backends refuses."""
    world.web(11, 12, 14)
    time.sleep(0.2)
    try:
        done = world.fetch("-H", "Connection: close", "-o", "/dev/null", "-w", "%{http_code} %{time_total}\\n", f"http://{WEB}/?[1-1000]")
    finally:
        world.web(11, 12)
    lines = [line.split() for line in done.stdout.splitlines()]
    bad = sum(code != "200" for code, _ in lines)
    slowest = max(float(seconds) for _, seconds in lines)
    text = f"{len(lines)} connections, {bad} failed, slowest {slowest * 1000:.0f} ms"
    expect(len(lines) == 1000 and bad == 0 and slowest <= limit, text)
    return text


def black_hole(world):
    """One of three backends is a black hole."""
    # Frames to a station that is not there: neither an answer nor an error.
    world.node.ip(f"neighbour replace {ENDPOINT}14 lladdr 02:00:00:00:00:99 nud permanent dev to-pods")
    try:
        return dead(world, 2)
    finally:
        world.node.ip(f"neighbour delete {ENDPOINT}14 dev to-pods")


def deploy_files(world):
    """The files in scripts/deploy are valid."""
    for file in sorted(DEPLOY.glob("*.yaml")):
        for where in ("client", "server"):
            world.kube("apply", f"--dry-run={where}", "-f", file)


def many_connections(world):
    """10,000 connections come and go."""
    # Once before: caches and buffers are then at their working size.
    world.requests(f"http://{WEB}/", 2000)
    time.sleep(1)
    files, rss = world.open_files(), world.rss_kb()
    expect(len(world.requests(f"http://{WEB}/", 10000)) == 10000, "a connection failed")
    time.sleep(1)
    back_to("open files", files, world.open_files(), 2)
    back_to("RSS in KB", rss, world.rss_kb(), 1024)
    return f"{files} open files and {rss} KB before; {world.open_files()} and {world.rss_kb()} KB after"


def many_services(world):
    """1,000 Services come and go."""
    loop = Loop(lambda: world.requests(f"http://{WEB}/", 20))
    levels = []
    # The first round sets the level to come back to.
    for _ in range(2):
        populate = ["python3", world.real / "populate", world.folder, 500, 2]
        world.node.run(*populate)
        labs.eventually(lambda: world.open_files() >= 500, 20)
        world.node.run(*populate, "--delete")
        time.sleep(2)
        levels.append((world.open_files(), world.rss_kb()))
    loop.end()
    time.sleep(1)
    expect(loop.bad == 0, f"{loop.bad} rounds of requests failed meanwhile")
    # The level was taken under traffic: a connection or two may have been open then.
    files, rss = levels[0]
    back_to("open files", files, world.open_files(), 8)
    back_to("RSS in KB", rss, world.rss_kb(), 2048)
    return f"1,000 Services added and removed under traffic; {world.open_files()} open files, {world.rss_kb()} KB"


def outage(world, seconds):
    """The apiserver goes and comes back; not one of the connections made all the time fails.

    A Service deleted just before is still refused (not lost) the better part of a minute later.
    """
    late = "10.96.0.98"
    world.service("late", late, ports=[{"name": "http", "port": 80}])
    world.endpoints("late", 8080, 11)
    soon(5, world.answers, f"http://{late}/")
    world.api("DELETE", f"{CORE}/services/late")
    soon(2, world.refused, f"{late}:80")
    world.cluster.down()
    loop = Loop(lambda: world.answers(f"http://{WEB}/"), 0.1)
    try:
        early = min(seconds, 45)
        time.sleep(early)
        world.refused(f"{late}:80")
        time.sleep(seconds - early)
        world.server_up(RESUME=1)
        # A change made meanwhile arrives.
        world.web(12)
        soon(100, world.only, "green", WEB, 4)
    finally:
        loop.end()
    world.web(11, 12)
    soon(5, world.both, WEB)
    expect(loop.bad == 0, f"{loop.bad} of {loop.made} connections failed")
    return f"{loop.made} connections, none failed"


def compacted(world):
    """History is compacted: 410."""
    # portico sleeps while that happens and the apiserver's cache is lost; its version is then too old.
    before = json.loads(world.api("GET", f"{CORE}/services/web"))["metadata"]["resourceVersion"]
    os.kill(world.process.pid, signal.SIGSTOP)
    try:
        world.cluster.down()
        world.server_up(RESUME=1, COMPACT="10s")
        for number in range(25):
            world.web(12)
            world.service("churn", "10.96.0.77", ports=[{"name": f"p{number}", "port": 1000 + number}])
            time.sleep(1)
        world.cluster.down()
        world.server_up(RESUME=1, COMPACT="10s")
        answer = world.api("GET", f"/api/v1/services?watch=1&timeoutSeconds=1&resourceVersion={before}") or ""
    finally:
        os.kill(world.process.pid, signal.SIGCONT)
    soon(100, world.only, "green", WEB, 4)
    world.web(11, 12)
    soon(5, world.both, WEB)
    expect("410" in answer, f"the server gave no 410: {answer[:200]}")


def killed(world):
    """kill -9 with a stalled client, and the next start."""
    # A client that reads nothing: data stays unsent in the portal's namespace.
    request = r"printf 'GET /bytes/100000000 HTTP/1.1\r\n\r\n' >&3"
    stalled = world.client.start("stalled", "bash", "-c", f"exec 3<>/dev/tcp/{WEB}/80; {request}; exec sleep 100")
    time.sleep(0.5)
    world.kill()
    began = time.monotonic()
    world.start(10)
    took = time.monotonic() - began
    labs.stop(stalled)
    return f"serving again {took * 1000:.0f} ms after the next start"


def killed_cleanly(world):
    """kill -9 leaves nothing."""
    world.kill()
    try:
        soon(2, world.nothing_left)
    finally:
        world.start()


def static(world):
    """The program is static and small."""
    segments = labs.run("readelf", "--wide", "--segments", "--dynamic", world.program).stdout
    size = os.stat(world.program).st_size // 1024
    expect("INTERP" not in segments and "(NEEDED)" not in segments, segments)
    return f"{size} KiB, RSS {world.rss_kb()} KB"


# --- the older APIs


def controllers(world):
    """Endpoints made by the real controllers: of a Service with a selector, and of a Pod."""
    address, pod = "10.96.0.71", f"{CORE}/pods/real-1"
    world.put("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    world.service("real", address, selector={"app": "real"}, ports=[{"name": "http", "port": 80, "targetPort": 8080}])
    world.put(
        f"{CORE}/pods",
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "real-1", "labels": {"app": "real"}},
         "spec": {"nodeName": NODE.rsplit("/", 1)[1], "containers": [{"name": "c", "image": "none"}]}},
    )  # fmt: skip
    ready = {"phase": "Running", "podIP": f"{ENDPOINT}11", "podIPs": [{"ip": f"{ENDPOINT}11"}], "conditions": [{"type": "Ready", "status": "True"}]}
    world.api("PATCH", f"{pod}/status", {"status": ready})
    soon(20, world.only, "blue", address, 3)
    world.api("PATCH", f"{pod}/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    soon(20, world.refused, f"{address}:80")


def ended(world):
    """SIGTERM: exit status 0, nothing left."""
    world.process.terminate()
    status = world.process.wait(60)
    expect(status == 0, f"exit status {status}")
    world.nothing_left()


EVERY_MODE = [cluster_ip, node_port, udp, six, six_udp, endpoint_out, endpoint_in, service_deleted]
NEWEST = [iperf, iperf_reverse, livez, explains, host_programs, host_programs_again, dead, black_hole]
LONG = [deploy_files, many_connections, many_services]
LAST = [compacted, killed, killed_cleanly, static]
