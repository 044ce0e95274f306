"""Network namespaces and processes of our own, and what they cost.

Everything lives in namespaces named after this process, links included: the machine's own namespace gets neither an
address nor a route, and closing the lab leaves nothing behind. What a killed run left is removed by the next one.
"""

import atexit
import os
import pathlib
import re
import shutil
import signal
import subprocess as sp
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
PREFIX = "ptb"


class Failed(Exception):
    """What went wrong, for the person at the terminal."""


def run(*command, check=True, **options):
    """Runs a command to its end; its output is text."""
    done = sp.run([str(word) for word in command], text=True, capture_output=True, **options)
    if check and done.returncode:
        raise Failed(f"{' '.join(done.args)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done


def eventually(condition, seconds, pause=0.02):
    """Waits for a condition; its value, or None when the time is over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
    return value


def alive(pid):
    """Whether such a process exists."""
    return pathlib.Path(f"/proc/{pid}").exists()


def enter_namespace():
    """Runs this program again in a network namespace that has no name and goes when it ends."""
    # exec keeps the process id: a program started by this one does not take itself to be inside.
    if os.environ.get("PORTICO_INSIDE") != str(os.getpid()):
        os.environ["PORTICO_INSIDE"] = str(os.getpid())
        unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
        os.execvp("unshare", [*unshare, sys.executable, *sys.argv])
    run("ip", "link", "set", "lo", "up")


class Namespace:
    """A network namespace, by the name that `ip netns` knows."""

    def __init__(self, lab, label):
        self.lab, self.name = lab, f"{PREFIX}{os.getpid()}-{label}"
        run("ip", "netns", "add", self.name)
        self.ip("link set lo up")
        self.sysctl(
            "net.core.somaxconn=65535",
            "net.ipv4.tcp_max_syn_backlog=65535",
            "net.ipv4.ip_local_port_range=10000 65000",
            "net.ipv4.tcp_tw_reuse=1",
            "net.ipv4.ip_forward=1",
        )

    def inside(self, *command):
        """The command that runs a command in here."""
        return ["ip", "netns", "exec", self.name, *(str(word) for word in command)]

    def run(self, *command, **options):
        """Runs a command in here to its end."""
        return run(*self.inside(*command), **options)

    def ip(self, words, check=True):
        """One `ip` command on this namespace."""
        return run("ip", "-n", self.name, *words.split(), check=check)

    def sysctl(self, *settings):
        """Sets kernel parameters of this namespace."""
        self.run("sysctl", "-qw", *settings)

    def start(self, label, *command, **options):
        """Starts a program in here; the lab ends it."""
        return self.lab.start(label, *self.inside(*command), **options)


class Lab:
    """The folder, namespaces and processes of one run."""

    def __init__(self):
        if os.geteuid() != 0:
            raise Failed("network namespaces need root: run this with sudo")
        remove_leftovers()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="portico-bench."))
        # nginx's workers and nsd drop their privileges and read files here.
        self.folder.chmod(0o755)
        self.namespaces, self.processes, self.closers = [], [], []
        atexit.register(self.close)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def namespace(self, label):
        """A new namespace."""
        namespace = Namespace(self, label)
        self.namespaces.append(namespace)
        return namespace

    def link(self, left, left_name, left_addresses, right, right_name, right_addresses):
        """A veth pair between two namespaces."""
        left.ip(f"link add {left_name} type veth peer name {right_name} netns {right.name}")
        for namespace, name, addresses in ((left, left_name, left_addresses), (right, right_name, right_addresses)):
            for address in addresses:
                namespace.ip(f"addr add {address} dev {name}")
            namespace.ip(f"link set {name} up")

    def file(self, name, text):
        """Writes a file of this run."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, label, *command, **options):
        """Starts a program in a session of its own; its output goes to a log of this run."""
        log = open(self.folder / f"{label}.log", "wb")
        settings = dict(stdin=sp.DEVNULL, stdout=log, stderr=log, start_new_session=True) | options
        process = sp.Popen([str(word) for word in command], **settings)
        self.processes.append(process)
        return process

    def log(self, label):
        """What a program wrote."""
        try:
            return (self.folder / f"{label}.log").read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def closing(self, action):
        """Something to do at the end, before processes and namespaces go."""
        self.closers.append(action)

    def close(self):
        """Ends what was started, removes what was made. May be called twice."""
        while self.closers:
            self.closers.pop()()
        for process in self.processes:
            stop(process)
        for namespace in self.namespaces:
            remove_namespace(namespace.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.processes, self.namespaces = [], []


def stop(process):
    """Ends a program that `Lab.start` started, with its children."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, sp.TimeoutExpired):
            pass


def remove_namespace(name):
    """Deletes one of our namespaces with the programs in it."""
    for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    run("ip", "netns", "del", name, check=False)


def remove_leftovers():
    """Deletes the namespaces of runs that were killed."""
    for name in re.findall(rf"^{PREFIX}\d+-\S+", run("ip", "netns", "list").stdout, re.M):
        if not alive(re.match(rf"{PREFIX}(\d+)", name)[1]):
            remove_namespace(name)


def family(pid):
    """A process and its descendants."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            for child in (task / "children").read_text().split():
                pids += family(int(child))
        except OSError:
            pass
    return pids


def cpu_seconds(pids):
    """User and system time of processes."""
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def machine_seconds():
    """Busy time of all cores, interrupts included."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def cpu_exact(pid):
    """CPU seconds of a process's threads that live, to the nanosecond."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(task.read_text().split()[0])
    return total / 1e9


def switches(pid):
    """How often threads of a process were put on a core: what an idle process must not be."""
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", status.read_text()))
    return total


def status_kb(pid, field):
    """A field of /proc/PID/status: VmRSS, or VmHWM, its highest value."""
    return int(re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def memory_kb(pids, field="Pss"):
    """Memory of processes; Pss counts a page that n processes share as 1/n page."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(rf"^{field}:\s+(\d+)", text, re.M)[1])
    return total


def open_files(pids):
    """Open files of processes."""
    total = 0
    for pid in pids:
        try:
            total += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            pass
    return total


def machine():
    """One line on the machine that figures come from."""
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    release = os.uname()
    return f"{os.cpu_count()} x {model[1] if model else release.machine}, Linux {release.release}"


def need_programs(programs):
    """Installs the Debian packages whose programs are missing. `programs`: program or file -> package."""
    packages = {package for program, package in programs.items() if not shutil.which(program) and not os.path.exists(program)}
    if not packages:
        return
    line = f"apt-get install --no-install-recommends {' '.join(sorted(packages))}"
    if not shutil.which("apt-get"):
        raise Failed(f"missing programs; on Debian: {line}")
    print(f"installing: {' '.join(sorted(packages))}", file=sys.stderr)
    # Debian starts the services of what it installs unless a policy says no.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    try:
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=environment)
        run(*line.split(), "-y", "-qq", env=environment)
    finally:
        if ours:
            policy.unlink()
