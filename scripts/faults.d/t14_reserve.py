"""One client's idle connections take all files that they can get: others are served, and health, metrics and explain answer.

Run by itself, in the node's namespace: t14_reserve.py fill holds 1,500 connections; t14_reserve.py ask makes 200 others
in a second, and prints how many were answered.
"""

import json
import socket
import sys
import threading
import time

IDLE, OTHERS, LIMIT = 1500, 200, 2000
ADDRESS = "10.77.2.1"
#            node port, endpoint's port
PORTS = {"hold": (30082, 8082), "web": (30080, 8080)}


def objects():
    """A Service that is filled, and one beside it."""
    items = []
    for name, (node_port, port) in PORTS.items():
        items.append({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name},
            "spec": {"type": "NodePort", "clusterIP": f"10.96.0.{node_port % 100}", "ports": [{"port": 80, "nodePort": node_port}]},
        })
        items.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "", "port": port}], "endpoints": [{"addresses": [ADDRESS]}],
        })
    return {"apiVersion": "v1", "kind": "List", "items": items}


def run(trial):
    """Compares what the others get with all that they ask for."""
    trial.node.ip(f"addr add {ADDRESS}/32 dev lo")
    manifest = trial.lab.file("services.json", json.dumps(objects()))
    servers = ["--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"]
    portico = trial.start(f"--manifests={manifest}", *servers, before=["prlimit", f"--nofile={LIMIT}:{LIMIT}"])
    if not portico.logged("listeners open"):
        return trial.check("it starts", False, portico.log()[-400:])
    trial.node.start("fill", sys.executable, __file__, "fill")
    trial.check("files run short, which is said", portico.logged("wait until files are free"), portico.log()[-400:])
    answered = json.loads(trial.node.run(sys.executable, __file__, "ask", timeout=60).stdout)
    trial.check(f"{answered} of {OTHERS} connections to another Service are answered", answered == OTHERS)
    for url in ("127.0.0.1:10256/healthz", "127.0.0.1:10249/metrics"):
        status = trial.node.run("curl", "-s", "-m3", "-o/dev/null", "-w%{http_code}", url, check=False).stdout
        trial.check(f"{url}: {status}", status == "200")
    trial.check("explain answers", "default/web" in portico.explain())
    portico.stop()


def answer(client):
    """Sends back what it gets."""
    with client:
        while part := client.recv(99):
            client.sendall(part)


def fill():
    """Both endpoints, and the idle connections."""
    for _, port in PORTS.values():
        listener = socket.create_server((ADDRESS, port), backlog=4096)

        def accept(listener=listener):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
    held = [socket.create_connection(("127.0.0.1", PORTS["hold"][0]), 5) for _ in range(IDLE)]
    time.sleep(600)
    return held


def ask():
    """One connection after the other, each with a question."""
    answered = 0
    for _ in range(OTHERS):
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", PORTS["web"][0]), 2) as client:
                client.settimeout(2)
                client.sendall(b"hello")
                answered += client.recv(9) == b"hello"
        except OSError:
            pass
        time.sleep(max(0.0, began + 1 / OTHERS - time.monotonic()))
    print(answered)


if __name__ == "__main__":
    {"fill": fill, "ask": ask}[sys.argv[1]]()
