"""What following an apiserver costs: starting, standing still, and obeying changes."""

import os
import pathlib
import re
import socket
import statistics
import subprocess as sp
import time
from multiprocessing import Process

import kube
import lab as labs
from cluster import TOKEN

# Two addresses of the namespace that the probed Service has as its endpoints in turn.
PROBES = ["10.201.0.2", "10.201.0.3"]
PROBE_VIP = "10.96.15.1"


class Portico:
    """A running portico, and its figures."""

    def __init__(self, lab, program, *flags):
        self.started = time.perf_counter()
        self.lab = lab
        fixed = ["--hostname-override", "n1", "--control-socket", ""]
        self.process = lab.start("portico", program, *fixed, *flags)
        self.pid = self.process.pid

    def wait_listening(self, count, seconds=120):
        """Seconds from the start until so many Service ports were open."""
        proc, limit = pathlib.Path(f"/proc/{self.pid}"), self.started + seconds
        while time.perf_counter() < limit:
            if self.process.poll() is not None:
                raise labs.Failed(f"portico ended: {self.lab.log('portico')[-400:]}")
            # Linux tells the number of open files as the folder's size: cheap enough to ask often. Every port is a file.
            if (proc / "fd").stat().st_size >= count and self.listening() >= count:
                return time.perf_counter() - self.started
            time.sleep(0.005)
        raise labs.Failed(f"{self.listening()} of {count} ports open after {seconds} s: {self.lab.log('portico')[-400:]}")

    def listening(self):
        """Sockets that listen on port 80, in whichever namespaces its threads are."""
        namespaces = {}
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            namespaces[os.readlink(task / "ns/net")] = task
        tables = ((task / "net" / table).read_text() for task in namespaces.values() for table in ("tcp", "tcp6"))
        return sum(len(re.findall(r":0050 \S+:0000 0A ", table)) for table in tables)

    def stop(self):
        """Ends it."""
        labs.stop(self.process)


def curl_lists(cluster, url):
    """Seconds that curl takes for the two lists, one after the other and both at once, after they were fetched before."""
    command = ["curl", "-sf", "-o", "/dev/null", "-A", "footprint", "--compressed", "--cacert", cluster.folder / "ca.crt"]
    command += ["-H", f"Authorization: Bearer {TOKEN}"]
    lists = [f"{url}{path}?resourceVersion=0" for path in ("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices")]
    serial, parallel = [], []
    for _ in range(4):
        start = time.perf_counter()
        for path in lists:
            labs.run(*command, path)
        serial.append(time.perf_counter() - start)
        start = time.perf_counter()
        for process in [sp.Popen([*command, path]) for path in lists]:
            process.wait()
        parallel.append(time.perf_counter() - start)
    return statistics.median(serial[1:]), statistics.median(parallel[1:])


def start(lab, program, services, settle, *flags):
    """One start: until every port is open, and what it took."""
    portico = Portico(lab, program, *flags)
    try:
        opened = portico.wait_listening(services)
        figures = {"open_s": opened, "cpu_s": labs.cpu_exact(portico.pid), "rss_kb": labs.status_kb(portico.pid, "VmRSS")}
        time.sleep(settle)
        settled = {"settled_kb": labs.status_kb(portico.pid, "VmRSS"), "peak_kb": labs.status_kb(portico.pid, "VmHWM")}
        return figures | settled | {"pss_kb": labs.memory_kb([portico.pid])}
    finally:
        portico.stop()


def idle(portico, seconds):
    """A while in which nothing happens: CPU, times that a thread was put on a core, and system calls by name."""
    time.sleep(3)
    strace = ["strace", "-f", "-c", "-qq", "-U", "name,calls", "-p", portico.pid]
    cpu, switches = labs.cpu_exact(portico.pid), labs.switches(portico.pid)
    time.sleep(seconds)
    figures = {"seconds": seconds, "cpu_s": labs.cpu_exact(portico.pid) - cpu, "switches": labs.switches(portico.pid) - switches}
    # strace's own coming and going wakes every thread: counted apart, and without what it interrupts.
    tracer = portico.lab.start("strace", *strace)
    time.sleep(seconds)
    labs.stop(tracer)
    calls = dict(re.findall(r"^\s*(\w+)\s+(\d+)\s*$", portico.lab.log("strace"), re.M))
    calls.pop("total", None)
    return figures | {"calls": {name: int(count) for name, count in calls.items()}}


def change_cost(portico, api, services, per_service, count=600, pace=200):
    """CPU seconds for one change of one endpoint, so many changes a second."""
    names = [f"svc-{index % services}" for index in range(count)]
    lists = [[kube.address((index % services) * per_service + n) for n in range(per_service)] for index in range(count)]
    # The last address is another one with every change.
    for index, addresses in enumerate(lists):
        addresses[-1] = f"10.251.{index >> 8}.{index & 255}"
    time.sleep(1)
    before, began = labs.cpu_exact(portico.pid), time.perf_counter()
    for index, (name, addresses) in enumerate(zip(names, lists)):
        api.move(f"{name}-0", addresses)
        time.sleep(max(0, began + (index + 1) / pace - time.perf_counter()))
    took = time.perf_counter() - began
    time.sleep(1)
    return {"cpu_per_change": (labs.cpu_exact(portico.pid) - before) / count, "rate": count / took}


class Probe:
    """A Service whose endpoint moves back and forth between two servers that say who they are."""

    def __init__(self, api, watcher):
        self.api, self.at, self.moments = api, 0, None
        for address in PROBES:
            labs.run("ip", "addr", "replace", f"{address}/32", "dev", "lo")
        listeners = [socket.create_server((address, 8080), backlog=1024) for address in PROBES]
        self.servers = [Process(target=say_address, args=(listener,), daemon=True) for listener in listeners]
        for server in self.servers:
            server.start()
        api.call("POST", kube.SERVICES, kube.service("probe", PROBE_VIP))
        api.call("POST", kube.SLICES, kube.endpoint_slice("probe-0", "probe", PROBES[:1]))
        self.moments = watcher.watch("probe-0")

    def close(self):
        """Ends the servers."""
        for server in self.servers:
            server.terminate()

    def wait(self):
        """Until the Service is served."""
        if not labs.eventually(lambda: self.ask() == PROBES[self.at], 20):
            raise labs.Failed("the probed Service is not served")

    def ask(self):
        """Which endpoint a new connection reaches."""
        try:
            with socket.create_connection((PROBE_VIP, 80), timeout=2) as connection:
                return connection.recv(64).decode()
        except OSError:
            return None

    def lag(self):
        """Moves the endpoint. How long after the event connections were still begun that went to the old one."""
        self.at = 1 - self.at
        while not self.moments.empty():
            self.moments.get_nowait()
        self.api.move("probe-0", [PROBES[self.at]])
        event, last_stale = self.moments.get(timeout=5), None
        deadline = event + 5
        while (begun := time.perf_counter()) < deadline:
            if self.ask() == PROBES[self.at]:
                return max(0, last_stale - event) if last_stale else 0
            last_stale = begun
        raise labs.Failed("a moved endpoint was not followed within 5 s")


def say_address(listener):
    """Sends each client the address that it reached."""
    while True:
        connection, _ = listener.accept()
        connection.send(connection.getsockname()[0].encode())
        connection.close()


def lags(probe, count, pause):
    """Median and worst lag of many moves, in milliseconds."""
    found = []
    for _ in range(count):
        found.append(probe.lag() * 1e3)
        time.sleep(pause)
    return {"median_ms": statistics.median(found), "worst_ms": max(found), "count": count}


def storm(portico, probe, url, services, per_service, rate, seconds=8):
    """So many endpoint changes a second: CPU while nothing else happens, then how far behind a probed Service is."""
    writer = Process(target=write_changes, args=(url, services, per_service, rate), daemon=True)
    writer.start()
    try:
        time.sleep(2)
        before, began, version = labs.cpu_exact(portico.pid), time.perf_counter(), newest(probe.api)
        time.sleep(seconds)
        took = time.perf_counter() - began
        figures = {"rate": (newest(probe.api) - version) / took, "cpu_share": (labs.cpu_exact(portico.pid) - before) / took}
        return figures | lags(probe, 100, 0.05)
    finally:
        writer.terminate()


def newest(api):
    """The apiserver's version: one more with every change."""
    return int(api.call("GET", f"{kube.SLICES}?limit=1")["metadata"]["resourceVersion"])


def write_changes(url, services, per_service, rate):
    """Changes one endpoint of one Service after the other, at a steady rate, until killed."""
    api, began, done = kube.Api(url), time.perf_counter(), 0
    lists = [[kube.address(index * per_service + n) for n in range(per_service)] for index in range(services)]
    while True:
        addresses = lists[done % services]
        addresses[-1] = f"10.251.{done >> 8 & 255}.{done & 255}"
        api.move(f"svc-{done % services}-0", addresses)
        done += 1
        time.sleep(max(0, began + done / rate - time.perf_counter()))
