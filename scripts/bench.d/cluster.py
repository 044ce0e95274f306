"""A real control plane, started by ../shared/real-apiserver inside a namespace, for the time of a run."""

import os
import signal
import subprocess as sp

import lab as labs

TOKEN = "proxy-token"


class Cluster:
    """etcd, kube-apiserver and the endpoints controller, on 127.0.0.1 of the namespace that they are started in."""

    def __init__(self, lab, programs, folder, inside=lambda *command: command):
        """`programs`: where the scripts `up`, `down`, `populate` are; `inside` makes a command run in the namespace."""
        self.lab, self.programs, self.folder, self.inside = lab, programs, folder, inside
        self.admin, self.proxy = folder / "admin.kubeconfig", folder / "proxy.kubeconfig"

    def up(self, **settings):
        """Starts it, empty, and waits until it is ready. `settings`: variables that the script `up` knows."""
        if not (self.programs / "up").exists():
            raise labs.Failed(f"{self.programs} has no `up`: give the folder of real-apiserver by --real-apiserver")
        if any(labs.alive(pid) for pid in self.pids()):
            raise labs.Failed(f"a cluster runs in {self.folder}: end it by {self.programs}/down {self.folder}, or name another folder")
        if self.down not in self.lab.closers:
            self.lab.closing(self.down)
        # Its children keep what they inherit: the end of a pipe would never come.
        with open(self.lab.folder / "cluster.log", "wb") as log:
            variables = [f"{name}={value}" for name, value in settings.items()]
            command = self.inside("env", *variables, self.programs / "up", self.folder)
            if sp.run(command, stdin=sp.DEVNULL, stdout=log, stderr=log).returncode:
                raise labs.Failed(f"{self.programs}/up {self.folder}: {self.lab.log('cluster')[-600:]}")

    def down(self):
        """Ends it."""
        self.signal(signal.SIGCONT)
        labs.run(self.programs / "down", self.folder, check=False)

    def pids(self):
        """Its processes."""
        return [int(file.read_text()) for file in self.folder.glob("*.pid")]

    def signal(self, number):
        """Stops or continues its processes."""
        for pid in self.pids():
            if labs.alive(pid):
                os.kill(pid, number)

    def populate(self, services, endpoints):
        """Adds Services with so many endpoints each."""
        labs.run(*self.inside(self.programs / "populate", self.folder, services, endpoints))
