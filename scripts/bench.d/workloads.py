"""What is done to each candidate, and what it answered and cost."""

import contextlib
import dataclasses
import json
import re
import subprocess as sp
import sys
import time
from collections.abc import Callable

import lab as labs

MILLISECONDS = {"us": 1e-3, "ms": 1, "s": 1e3}
IDLE_CONNECTIONS = 5000
SLOW_READERS = 8


def wrk(candidate, seconds, connections=64, close=False, path="/"):
    """HTTP requests, as fast as answers come."""
    address, port = candidate.target("http")
    header = ["-H", "Connection: close"] if close else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *header, f"http://{address}:{port}{path}"]
    output = candidate.topology.client.run(*command, check=False).stdout
    requests, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not requests or not rate:
        return {"errors": output.strip()[-100:]}
    latency = {p: float(value) * MILLISECONDS[unit] for p, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", output)}
    errors = re.search(r"Socket errors: (.*)", output) or re.search(r"(Non-2xx.*)", output)
    return {
        "rate": float(rate[1]),
        "units": int(requests[1]),
        "p50": latency.get("50"),
        "p99": latency.get("99"),
        "errors": errors[1] if errors else "",
    }


def iperf(candidate, seconds, streams=1, reverse=False):
    """One direction at full speed; with `reverse` from the endpoint to the client."""
    address, port = candidate.target("iperf")
    command = ["iperf3", "-J", "-c", address, "-p", port, "-t", seconds, "-P", streams, *(["-R"] if reverse else [])]
    output = candidate.topology.client.run(*command, check=False).stdout
    try:
        total = json.loads(output)["end"]["sum_received"]
        return {"rate": total["bits_per_second"] / 1e9, "units": total["bytes"] / 1e9}
    except (ValueError, KeyError):
        error = re.search(r'"error":\s*"(.*)"', output)
        return {"errors": error[1] if error else output[-100:]}


def dnsperf(candidate, seconds, ports=32, threads=1):
    """DNS queries over UDP from so many source ports, 200 under way. A dnsperf thread has at most 256 sockets."""
    address, port = candidate.target("dns")
    command = ["dnsperf", "-s", address, "-p", port, "-d", candidate.topology.queries, "-l", seconds, "-t", 2]
    load = ["-c", ports, "-T", threads, "-q", 200]
    output = candidate.topology.client.run(*command, *load, check=False).stdout

    def number(label):
        found = re.search(label + r":\s+([\d.]+)", output)
        return float(found[1]) if found else 0

    lost = number("Queries lost")
    return {
        "rate": number("Queries per second"),
        "units": number("Queries completed"),
        "p50": number(r"Average Latency \(s\)") * 1e3,
        "errors": f"{lost:.0f} lost" if lost else "",
    }


@contextlib.contextmanager
def traffic(candidate, mode, *arguments):
    """A client of traffic.py that has said that it is under way; it ends when its stdin closes."""
    command = candidate.topology.client.inside(sys.executable, candidate.topology.traffic, mode, *arguments)
    process = candidate.lab.start(mode, *command, stdin=sp.PIPE, stdout=sp.PIPE, text=True)
    try:
        yield process.stdout.readline()
    finally:
        process.stdin.close()
        process.wait(20)


def bursts(candidate, seconds):
    """A client that sends 32 messages of 64 bytes, each by a write of its own, and waits for two small answers."""
    topology = candidate.topology
    command = [sys.executable, topology.traffic, "burst", *candidate.target("burst"), seconds]
    done = topology.client.run(*command, check=False, timeout=seconds + 30)
    return json.loads(done.stdout) if done.stdout else {"errors": done.stderr.strip()[-100:]}


def idle(candidate, _seconds):
    """Connections that have carried one request and answer, and then nothing."""
    before = labs.memory_kb(candidate.pids())
    files = labs.open_files(candidate.pids())
    address, port = candidate.target("http")
    with traffic(candidate, "idle", address, port, IDLE_CONNECTIONS) as line:
        if not line:
            return {"errors": candidate.lab.log("idle")[-100:]}
        time.sleep(1)
        pids = candidate.pids()
        per_connection = (labs.memory_kb(pids) - before) / IDLE_CONNECTIONS
        return json.loads(line) | {
            "kb_per_connection": per_connection,
            "files_per_connection": (labs.open_files(pids) - files) / IDLE_CONNECTIONS,
            "pss_kb": labs.memory_kb(pids),
        }


def beside_slow(candidate, seconds):
    """Four connections that fetch 1 MiB at a time while eight others hardly read what they asked for."""
    address, port = candidate.target("http")
    with traffic(candidate, "slow", address, port, SLOW_READERS) as line:
        if not line:
            return {"errors": candidate.lab.log("slow")[-100:]}
        result = wrk(candidate, seconds, connections=4, path="/files/1m")
        result["pss_kb"] = labs.memory_kb(candidate.pids())
    # Gigabytes and gigabits, as for the other transfers.
    for field, factor in (("units", (1 << 20) / 1e9), ("rate", 8 * (1 << 20) / 1e9)):
        result[field] = result.get(field, 0) * factor
    return result


@dataclasses.dataclass(frozen=True)
class Workload:
    """One way to load a candidate, and the words for its figures."""

    title: str
    rate: str
    unit: str
    run: Callable
    udp: bool = False
    # Measurements in each round: more where they differ most.
    repeat: int = 1


BULK = {"rate": "Gbit/s", "unit": "GB"}
ALL = {
    "http-64": Workload("Small HTTP requests on 64 kept connections", "requests/s", "request", wrk, repeat=3),
    "http-1": Workload("Small HTTP requests on one kept connection", "requests/s", "request", lambda c, s: wrk(c, s, connections=1)),
    "connect": Workload("A connection per request, 64 at a time", "connections/s", "connection", lambda c, s: wrk(c, s, close=True)),
    "bulk-1-up": Workload("One stream, client to endpoint", run=iperf, **BULK),
    "bulk-1-down": Workload("One stream, endpoint to client", run=lambda c, s: iperf(c, s, reverse=True), **BULK),
    "bulk-8-up": Workload("Eight streams, client to endpoint", run=lambda c, s: iperf(c, s, streams=8), **BULK),
    "bulk-8-down": Workload("Eight streams, endpoint to client", run=lambda c, s: iperf(c, s, streams=8, reverse=True), **BULK),
    "dns-32": Workload("DNS over UDP from 32 source ports (latency: the mean)", "queries/s", "query", dnsperf, udp=True),
    "dns-2000": Workload(
        "DNS over UDP from 2,000 source ports (latency: the mean)", "queries/s", "query", lambda c, s: dnsperf(c, s, ports=2000, threads=8), udp=True
    ),
    "idle": Workload(f"{IDLE_CONNECTIONS:,} idle connections", "opened/s", "connection", idle),
    "small-writes": Workload("Bursts of 32 writes of 64 bytes", "writes/s", "write", bursts),
    "slow-reader": Workload(f"1 MiB fetches beside {SLOW_READERS} slow readers", run=beside_slow, **BULK),
}


def measure(workload, candidate, seconds):
    """Runs a workload; adds the CPU that the candidate and the whole machine spent on it."""
    candidate.resume()
    own, machine = labs.cpu_seconds(candidate.pids()), labs.machine_seconds()
    result = workload.run(candidate, seconds)
    result["cpu_s"] = labs.cpu_seconds(candidate.pids()) - own
    result["machine_s"] = labs.machine_seconds() - machine
    result.setdefault("pss_kb", labs.memory_kb(candidate.pids()))
    candidate.pause()
    # A short run that moved nothing would divide by zero.
    if result.get("units"):
        result["cpu_per_unit"] = result["cpu_s"] / result["units"]
        result["machine_per_unit"] = result["machine_s"] / result["units"]
    return result
