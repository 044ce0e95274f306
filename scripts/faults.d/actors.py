"""Clients and servers that faults use, each run in a machine of its own: actors.py serve|load|hold|ask ..."""

import collections
import json
import resource
import select
import socket
import sys
import threading
import time


def serve(*places):
    """`ip:port:text` each: answers HTTP with that text; `echo` echoes, `hold` takes what comes and says nothing."""
    for place in places:
        ip_port, text = place.rsplit(":", 1)
        ip, port = ip_port.rsplit(":", 1)
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        listener = socket.create_server((ip, int(port)), family=family, backlog=4096)
        threading.Thread(target=accept, args=(listener, text)).start()


def accept(listener, text):
    """Serves each client on a thread of its own."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=answer, args=(client, text), daemon=True).start()


def answer(client, text):
    """One client."""
    try:
        while data := client.recv(65536):
            if text == "echo":
                client.sendall(data)
            elif text != "hold" and data.endswith(b"\r\n\r\n"):
                client.sendall(f"HTTP/1.0 200 OK\r\n\r\n{text}".encode())
                break
    except OSError:
        pass
    client.close()


def once(ip, port, timeout, source=None):
    """One HTTP request: how it ended, or `ok`; and what was said."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(timeout)
        try:
            if source:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.bind(source)
            client.connect((ip, port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            said = b""
            while data := client.recv(65536):
                said += data
        except OSError as error:
            return type(error).__name__, ""
    said = said.decode(errors="replace")
    return ("ok" if said.startswith("HTTP") else "end without an answer"), said.rpartition("\r\n")[2]


def ask(ip, port, timeout="2", source=""):
    """Prints how one request ended, and what was said."""
    print(json.dumps(once(ip, int(port), float(timeout), (source, 0) if source else None)))


def load(ip, port, seconds, rate="200"):
    """New connections at a steady rate: how many ended how, over what time some did not end well, the slowest good one."""
    results, lock = [], threading.Lock()

    def one(at):
        began = time.monotonic()
        how, _ = once(ip, int(port), 3)
        with lock:
            results.append((at, how, time.monotonic() - began))

    threads, began = [], time.monotonic()
    while (now := time.monotonic()) < began + float(seconds):
        threads.append(threading.Thread(target=one, args=(now,)))
        threads[-1].start()
        time.sleep(max(0, began + len(threads) / float(rate) - time.monotonic()))
    for thread in threads:
        thread.join()
    bad = [at for at, how, _ in results if how != "ok"]
    counts = collections.Counter(how for _, how, _ in results)
    slowest = max((took for _, how, took in results if how == "ok"), default=0)
    outage = max(bad) - min(bad) if bad else 0
    print(json.dumps({"counts": counts, "outage": round(outage, 2), "slowest": round(slowest, 2)}))


def hold(ip, port, count, seconds, first=""):
    """Holds connections, says `held` on standard error, and then what each of them heard within the time.

    `first`: what each sends and must get back before; those that heard nothing try it again at the end."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    clients, word = {}, first.encode()
    for _ in range(int(count)):
        client = socket.create_connection((ip, int(port)), 5)
        if word:
            client.sendall(word)
            assert client.recv(99) == word
        clients[client.fileno()] = client
    print("held", file=sys.stderr, flush=True)
    poll, heard, deadline = select.poll(), collections.Counter(), time.monotonic() + float(seconds)
    for number in clients:
        poll.register(number, select.POLLIN)
    while clients and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            client = clients.pop(number)
            poll.unregister(number)
            try:
                heard["data" if client.recv(99) else "FIN"] += 1
            except OSError as error:
                heard[type(error).__name__] += 1
    for client in clients.values():
        heard[revive(client, word) if word else "nothing"] += 1
    print(json.dumps(heard))


def revive(client, word):
    """Whether a connection that was silent is alive."""
    client.settimeout(2)
    try:
        client.sendall(word)
        return "alive" if client.recv(99) == word else "late FIN"
    except OSError as error:
        return f"silent, then {type(error).__name__}"


def reuse(source, ip, port, first, count, timeout="0.5"):
    """One connection from each of the ports `first`..: how they ended."""
    ends = collections.Counter()
    for number in range(int(first), int(first) + int(count)):
        ends[once(ip, int(port), float(timeout), (source, number))[0]] += 1
    print(json.dumps(ends))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
