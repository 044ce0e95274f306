#!/usr/bin/env python3
"""Clients and a server for what wrk, iperf3 and dnsperf do not do. The bench runs these inside its namespaces.

    traffic.py serve PORT                     bursts of small writes, answered by two small writes
    traffic.py burst ADDRESS PORT SECONDS     the client of that: prints JSON
    traffic.py idle ADDRESS PORT COUNT        connections that have had one HTTP answer and stay open until stdin closes
    traffic.py slow ADDRESS PORT COUNT        readers of an endless file that take 16 KiB every 50 ms, until stdin closes
"""

import json
import os
import select
import signal
import socket
import sys
import time

MESSAGE = 64
MESSAGES = 32
# A burst is complete only with its last message: a proxy that holds back a small segment until the one before is
# acknowledged (Nagle against delayed acknowledgements) takes 40 ms for it.
BURST = MESSAGE * MESSAGES


def connect(address, port):
    """A connection whose small writes leave at once."""
    connection = socket.create_connection((address, int(port)), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection, size):
    """Exactly so many bytes; fewer if the peer ends."""
    got = 0
    while got < size and (data := connection.recv(65536)):
        got += len(data)
    return got


def serve(port):
    """One process a connection."""
    listener = socket.create_server(("", int(port)), backlog=128)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while receive(connection, BURST) == BURST:
                    connection.send(bytes(MESSAGE))
                    connection.send(bytes(MESSAGE))
            finally:
                os._exit(0)
        connection.close()


def burst(address, port, seconds):
    """Bursts, one after the other, each message by a write of its own."""
    connection, message, took = connect(address, port), bytes(MESSAGE), []
    start = now = time.perf_counter()
    while now - start < float(seconds):
        for _ in range(MESSAGES):
            connection.send(message)
        if receive(connection, 2 * MESSAGE) != 2 * MESSAGE:
            raise SystemExit("the connection ended")
        before, now = now, time.perf_counter()
        took.append(now - before)
    took.sort()
    p50, p99 = (took[int(len(took) * share)] * 1e3 for share in (0.5, 0.99))
    messages = len(took) * MESSAGES
    print(json.dumps({"units": messages, "rate": messages / (now - start), "p50": p50, "p99": p99}))


def idle(address, port, count):
    """Opens connections, uses each once, says so and keeps them."""
    request = f"GET / HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    kept, start = [], time.perf_counter()
    for _ in range(int(count)):
        connection = connect(address, port)
        connection.sendall(request)
        if not connection.recv(65536):
            raise SystemExit("a connection ended")
        kept.append(connection)
    print(json.dumps({"units": len(kept), "rate": len(kept) / (time.perf_counter() - start)}), flush=True)
    sys.stdin.read()


def slow(address, port, count):
    """Reads less than what is sent."""
    request = f"GET /files/huge HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    readers = [connect(address, port) for _ in range(int(count))]
    for reader in readers:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader.sendall(request)
    print("reading", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        for reader in readers:
            if not reader.recv(16384):
                raise SystemExit("a connection ended")


if __name__ == "__main__":
    {"serve": serve, "burst": burst, "idle": idle, "slow": slow}[sys.argv[1]](*sys.argv[2:])
