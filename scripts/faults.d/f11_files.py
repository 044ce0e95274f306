"""More clients at once than there are files for: every one that is accepted is served.

Run by itself, in the node's namespace: the clients and the endpoint. f11_files.py PID CLIENTS
"""

import json
import os
import signal
import socket
import sys
import threading
import time

ENDPOINT, NODE_PORT = ("127.0.0.1", 8080), 30080
LIMIT, CLIENTS = 96, 300
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "a"},
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.80", "ports": [{"port": 80, "nodePort": NODE_PORT}]},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
    "metadata": {"namespace": "default", "name": "a", "labels": {"kubernetes.io/service-name": "a"}},
    "ports": [{"name": "", "port": ENDPOINT[1]}], "endpoints": [{"addresses": ["10.77.2.1"]}],
}


def manifest(trial):
    """One Service with one endpoint, on an address that the node gets for it."""
    trial.node.ip("addr add 10.77.2.1/32 dev lo")
    items = {"apiVersion": "v1", "kind": "List", "items": [SERVICE, SLICE]}
    return trial.lab.file("services.json", json.dumps(items))


def run(trial):
    """Compares how many are served with how many there are files for."""
    limit = ["prlimit", f"--nofile={LIMIT}:{LIMIT}"]
    portico = trial.start("--workers=4", f"--manifests={manifest(trial)}", before=limit)
    if not portico.logged("listeners open"):
        return trial.check("it starts", False, portico.log()[-400:])
    done = trial.node.run(sys.executable, __file__, portico.process.pid, CLIENTS, timeout=60)
    rest, most, served = json.loads(done.stdout)
    possible = (LIMIT - rest) // 2
    # A few files are left to health, metrics, explain and the sources.
    trial.check(f"{served} served of {possible} that there are files for", served >= 0.8 * possible)
    trial.check(f"{most} of {LIMIT} files in use", most <= LIMIT - 6)
    trial.check("explain answers meanwhile", "default/a" in portico.explain(), portico.log()[-400:])
    portico.stop()


def greet(client):
    """Says hi, and waits for the end."""
    try:
        client.sendall(b"hi")
        while client.recv(9):
            pass
    except OSError:
        pass
    client.close()


def serve():
    """The endpoint."""
    listener = socket.create_server(("10.77.2.1", ENDPOINT[1]), backlog=512)

    def accept():
        while True:
            threading.Thread(target=greet, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def is_served(client):
    """Whether the endpoint's word has arrived."""
    client.setblocking(False)
    try:
        return client.recv(9, socket.MSG_PEEK) == b"hi"
    except OSError:
        return False


def main(pid, clients):
    """All connect while the program stands still: it finds them all waiting."""
    serve()
    files = lambda: len(os.listdir(f"/proc/{pid}/fd"))  # noqa: E731
    rest = files()
    os.kill(pid, signal.SIGSTOP)
    sockets = [socket.create_connection(("127.0.0.1", NODE_PORT), 5) for _ in range(clients)]
    os.kill(pid, signal.SIGCONT)
    served, before = 0, -1
    while served != before:
        time.sleep(1)
        before, served = served, sum(map(is_served, sockets))
    print(json.dumps([rest, files(), served]))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
