"""One fault's trial: a namespace, the program in it, and what is compared."""

import json
import pathlib
import re
import sys
import time

from lab import Failed, eventually, run, stop

HERE = pathlib.Path(__file__).resolve().parent
INPUTS = HERE / "inputs"


class Trial:
    """What a fault's file is given."""

    def __init__(self, lab, name, portico, kubectl):
        self.lab, self.name, self.portico, self.kubectl = lab, name, portico, kubectl
        self.passed = self.failed = 0
        self.count = 0
        self.node = lab.namespace("node")

    def check(self, what, holds, detail=""):
        """Counts one comparison, and says how it went."""
        if holds:
            self.passed += 1
            print(f"    ok    {what}", flush=True)
        else:
            self.failed += 1
            print(f"    FAIL  {what}: {detail}", flush=True)

    def start(self, *arguments, before=(), label="portico"):
        """The program with these arguments, node ports only and without servers unless said."""
        self.count += 1
        label = f"{label}-{self.count}"
        settings = {"--portal": "none", "--hostname-override": "n1", "--healthz-bind-address": "", "--metrics-bind-address": ""}
        said = [str(word).split("=")[0] for word in arguments]
        rest = [f"{name}={value}" for name, value in settings.items() if name not in said]
        socket = self.lab.folder / f"{label}.sock"
        command = [*before, self.portico, *arguments, *rest, f"--control-socket={socket}"]
        return Portico(self, label, self.node.start(label, *command), socket)

    def explain(self, *arguments):
        """What `portico explain` says; its standard error with it."""
        done = run(self.portico, "explain", "--hostname-override", "n1", *arguments, check=False)
        return done.stdout + done.stderr

    def judge(self, *arguments):
        """What kubectl says in the node's namespace, and whether it was content."""
        done = self.node.run(self.kubectl, *arguments, check=False, stdin=sys.stdin, timeout=60)
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def helper(self, label, script, *arguments):
        """A Python program beside this file, in the node's namespace."""
        return self.node.start(label, sys.executable, HERE / script, *arguments)

    def apiserver(self, *arguments, label="apiserver"):
        """An apiserver on 127.0.0.1 that behaves as these words say; waits until it listens."""
        self.count += 1
        server = Apiserver(self, f"{label}-{self.count}", arguments)
        server.wait_for("listening")
        return server

    def kubeconfig(self, server, cluster=None, user=None, name="kubeconfig"):
        """A kubeconfig in this run's folder."""
        text = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": user or {}}],
        }
        return self.lab.file(name, json.dumps(text))


class Portico:
    """The program while it runs."""

    def __init__(self, trial, label, process, socket):
        self.trial, self.label, self.process, self.socket = trial, label, process, socket
        self.began = time.monotonic()

    def log(self):
        """What it has written so far."""
        return self.trial.lab.log(self.label)

    def logged(self, text, seconds=15):
        """Waits for a line with this; the line, or an empty one."""
        def found():
            lines = [line for line in self.log().splitlines() if re.search(text, line)]
            return lines and lines[0]
        return eventually(found, seconds, 0.05) or ""

    def warnings(self):
        """Its warnings and errors."""
        return [line for line in self.log().splitlines() if re.search(r"\[(WARN|ERROR)\]", line)]

    def explain(self):
        """What it says about the Services that it knows."""
        done = run(self.trial.portico, "explain", "--control-socket", self.socket, check=False)
        return done.stdout + done.stderr

    def serves(self, text, seconds=15):
        """Waits until explain says this; after how many seconds since the start, or None."""
        said = eventually(lambda: text in self.explain(), seconds, 0.1)
        return said and time.monotonic() - self.began

    def ended(self, seconds=5):
        """Its exit status, if it ends within so long."""
        return eventually(lambda: self.process.poll() is not None, seconds) and self.process.returncode

    def stop(self):
        """Ends it."""
        stop(self.process)


class Apiserver:
    """apiserver.py while it runs."""

    def __init__(self, trial, label, arguments):
        self.trial, self.label = trial, label
        self.process = trial.helper(label, "apiserver.py", *arguments)

    def log(self):
        """The requests that it has seen, one a line, with their Authorization."""
        return self.trial.lab.log(self.label)

    def wait_for(self, text, seconds=15):
        """Waits for a request like this."""
        if not eventually(lambda: text in self.log(), seconds, 0.05):
            raise Failed(f"the apiserver has not seen {text!r}: {self.log()[-400:]}")

    def stop(self):
        """Ends it."""
        stop(self.process)
