"""A small load that is the same each time: what scripts/guard counts and scripts/size/layout records."""

import socket
from multiprocessing import Process

import kube
import lab as labs

VIP, ENDPOINT = "10.96.100.1", "10.201.0.2"
TCP_PORTS, UDP_PORT = {"echo": 80, "download": 81}, 53
REQUEST = bytes(100)
ANSWER = bytes(300)
DOWNLOAD = 64 << 20


def objects():
    """One Service with all ports of the workload."""
    ports = [{"name": name, "protocol": "TCP", "port": port} for name, port in TCP_PORTS.items()]
    ports.append({"name": "udp", "protocol": "UDP", "port": UDP_PORT})
    service, slice_ = kube.service("guard", VIP), kube.endpoint_slice("guard-0", "guard", [ENDPOINT])
    service["spec"]["ports"] = [port | {"targetPort": port["port"]} for port in ports]
    slice_["ports"] = ports
    return [service, slice_]


def serve(kind):
    """An endpoint: answers of fixed size, or one long download a connection."""
    if kind == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((ENDPOINT, UDP_PORT))
            while True:
                _, client = server.recvfrom(2048)
                server.sendto(ANSWER, client)
    with socket.create_server((ENDPOINT, TCP_PORTS[kind]), backlog=1024) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                if kind == "download":
                    connection.sendall(bytes(DOWNLOAD))
                while kind == "echo" and connection.recv(2048):
                    connection.sendall(ANSWER)


def answers(address=VIP):
    """Whether a connection is accepted."""
    try:
        with socket.create_connection((address, 80), timeout=1):
            return True
    except OSError:
        return False


def exchange(connection):
    """A request and its answer."""
    connection.sendall(REQUEST)
    got = 0
    while got < len(ANSWER):
        got += len(connection.recv(2048))


def connect_and_exchange():
    """A connection for one request; the client closes first."""
    with socket.create_connection((VIP, TCP_PORTS["echo"])) as connection:
        exchange(connection)


def download():
    """Everything that the endpoint sends."""
    with socket.create_connection((VIP, TCP_PORTS["download"])) as connection:
        while connection.recv(1 << 20):
            pass


def udp_client():
    """A client with a source port of its own."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((VIP, UDP_PORT))
    client.settimeout(5)
    return client


def query(client):
    """A datagram and its answer."""
    client.send(REQUEST)
    client.recv(2048)


def query_once():
    """A query from a new source port."""
    with udp_client() as client:
        query(client)


def start_servers():
    """The endpoints, in this process's namespace."""
    labs.run("ip", "addr", "add", f"{ENDPOINT}/32", "dev", "lo")
    servers = [Process(target=serve, args=(kind,), daemon=True) for kind in ("echo", "download", "udp")]
    for server in servers:
        server.start()
    return servers


def exercise():
    """A little of everything."""
    with socket.create_connection((VIP, TCP_PORTS["echo"])) as kept:
        for _ in range(20):
            exchange(kept)
    for _ in range(20):
        connect_and_exchange()
        query_once()
    download()
