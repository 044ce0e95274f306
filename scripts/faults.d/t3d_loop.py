"""Services whose endpoints are each other's node ports on two, three and five nodes: one client's way ends.

Run by itself, in a node's namespace: t3d_loop.py PORT prints how a TCP connection ended, and after how many seconds; a
datagram goes a hundred above.
"""

import json
import os
import socket
import sys
import time

NODE_PORT = 30090


def objects(nodes):
    """The Service number n leads to the next one's node port on the next node."""
    items = []
    for n in range(nodes):
        following = (n + 1) % nodes
        name, address = f"s{n}", f"10.93.0.{following + 1}"
        ports = [("t", "TCP", 0), ("u", "UDP", 100)]
        items.append({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "loop", "name": name},
            "spec": {"type": "NodePort", "clusterIP": f"10.96.0.{n + 1}", "ports": [
                {"name": port, "protocol": protocol, "port": 80, "nodePort": NODE_PORT + n + above} for port, protocol, above in ports
            ]},
        })
        items.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "loop", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": port, "protocol": protocol, "port": NODE_PORT + following + above} for port, protocol, above in ports],
        })
    return {"apiVersion": "v1", "kind": "List", "items": items}


def run(trial):
    """Compares time and files with their bounds."""
    trial.node.ip("link add br0 type bridge")
    trial.node.ip("link set br0 up")
    nodes = []
    for n in range(5):
        node = trial.lab.namespace(f"n{n + 1}")
        trial.lab.link(node, "eth0", [f"10.93.0.{n + 1}/24"], trial.node, f"h{n + 1}", [])
        trial.node.ip(f"link set h{n + 1} master br0")
        nodes.append(node)
    for count in (2, 3, 5):
        circle(trial, nodes[:count])


def circle(trial, nodes):
    """One circle."""
    manifest = trial.lab.file(f"loop-{len(nodes)}.json", json.dumps(objects(len(nodes))))
    home, proxies = trial.node, []
    for node in nodes:
        trial.node = node
        proxies.append(trial.start(f"--manifests={manifest}"))
    trial.node = home
    if not all(proxy.logged("listeners open") for proxy in proxies):
        return trial.check(f"{len(nodes)} nodes start", False, proxies[0].log()[-400:])
    files = lambda: sum(len(os.listdir(f"/proc/{proxy.process.pid}/fd")) for proxy in proxies)  # noqa: E731
    rest = files()
    end, seconds = json.loads(nodes[-1].run(sys.executable, __file__, NODE_PORT, timeout=60).stdout)
    trial.check(f"{len(nodes)} nodes: the connection ends after {seconds:.2f} s", end == "reset" and seconds < 1, end)
    trial.check("it is said", any(proxy.logged("go in circles", 2) for proxy in proxies))
    time.sleep(1)
    cost = files() - rest
    trial.check(f"it costs {cost} files", cost < 300)
    for proxy in proxies:
        proxy.stop()


def main(port):
    """One connection, one datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(b"hello", ("10.93.0.1", port + 100))
    began, end = time.monotonic(), "nothing"
    try:
        with socket.create_connection(("10.93.0.1", port), 20) as client:
            client.sendall(b"hello")
            end = "an answer" if client.recv(9) else "end"
    except ConnectionResetError:
        end = "reset"
    except OSError as error:
        end = str(error)
    print(json.dumps([end, time.monotonic() - began]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
