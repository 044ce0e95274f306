#!/usr/bin/env python3
"""An apiserver with one Service, on 127.0.0.1:18080 (or --port), that behaves as its words say.

apiserver.py [--port N] [--tls CERT KEY] [--client-ca CA] [WORD...]: what is asked (each request is a line of output)

Words, for all requests or, as KIND:WORD, for those of services, endpointslices, nodes or servicecidrs:
  silent, added, bookmark, trickle, close   how a watch-list goes wrong: nothing; objects only; a bookmark without the
                                            annotation; a change each second; its end after two seconds
  hang, status CODE as 401, 429...          what comes of any request
  html                                      a page; redirect: 308 with a Location
  endless, drip, bomb, pages                lists that do not end
  big                                       an object of 64 MB among others
  token=T                                   only requests with this bearer token are answered
"""

import argparse
import json
import ssl
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

META = {"namespace": "default", "name": "web", "resourceVersion": "5"}
SERVICE = {
    "metadata": META,
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80"], "ports": [{"port": 80, "nodePort": 30080}]},
}
SLICE = {
    "metadata": {**META, "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": ["10.77.2.1"]}],
}
KINDS = {
    "/api/v1/services": ("v1", "Service", [SERVICE]),
    "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice", [SLICE]),
    "/api/v1/nodes": ("v1", "Node", []),
    "/apis/networking.k8s.io/v1/servicecidrs": ("networking.k8s.io/v1", "ServiceCIDR", []),
}
WORDS = []


def words(path):
    """What holds for requests of this path."""
    kind = path.rsplit("/", 1)[-1]
    return [word.split(":")[-1] for word in WORDS if ":" not in word or word.split(":")[0] == kind]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Requests are logged as they come."""

    def do_GET(self):
        """A list, a watch, or anything else."""
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        form = "watch-list" if "sendInitialEvents" in query else "watch" if "watch" in query else "list"
        print(f"{form} {url.path} {self.headers.get('Authorization')!r}", flush=True)
        said = words(url.path)
        if "hang" in said:
            time.sleep(3600)
        if self.refused(said):
            return
        if url.path not in KINDS:
            return self.answer(404, b"404 page not found\n", "text/plain")
        if form == "list":
            return self.list(url.path, said, query)
        self.watch(url.path, said, query)

    def do_POST(self):
        """Events are taken."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, b"{}")

    def refused(self, said):
        """Whether the request has been answered with something else than objects."""
        for word in said:
            if word.isdigit():
                status = {"kind": "Status", "code": int(word), "reason": f"Reason{word}", "message": "go away"}
                self.answer(int(word), json.dumps(status).encode())
                return True
            if word == "html":
                self.answer(200, b"<html><title>Log in</title></html>", "text/html")
                return True
            if word == "redirect":
                self.answer(308, b"", "text/html", {"Location": "https://login.example.test/"})
                return True
            if word.startswith("token=") and self.headers.get("Authorization") != f"Bearer {word[6:]}":
                self.answer(401, b'{"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}')
                return True
        return False

    def answer(self, code, body, kind="application/json", headers=None):
        """One whole answer."""
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, headers=None):
        """The head of an answer in chunks."""
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", "Transfer-Encoding": "chunked", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data):
        """A chunk of it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def list(self, path, said, query):
        """All objects, or what is said instead."""
        api, kind, items = KINDS[path]
        head = f'{{"apiVersion": "{api}", "kind": "{kind}List", "metadata": {{"resourceVersion": "5"}}, "items": ['.encode()
        if "endless" in said:
            self.begin()
            self.chunk(head)
            number = 0
            while True:
                names = [{**SERVICE, "metadata": {**META, "name": f"x{number + i}"}} for i in range(500)]
                number += 500
                self.chunk(", ".join(map(json.dumps, names)).encode() + b", ")
        if "drip" in said:
            self.begin()
            self.chunk(head)
            while True:
                self.chunk(b" ")
                time.sleep(1)
        if "bomb" in said:
            return self.bomb(head)
        meta = {"resourceVersion": "5"}
        if "pages" in said:
            meta["continue"] = str(int(query.get("continue", 0)) + 1)
        if "big" in said:
            items = [{**SERVICE, "metadata": {**META, "name": "big", "annotations": {"x": "x" * (64 << 20)}}}, *items]
        self.answer(200, json.dumps({"apiVersion": api, "kind": f"{kind}List", "metadata": meta, "items": items}).encode())

    def bomb(self, head):
        """Little that becomes much, without end."""
        self.begin({"Content-Encoding": "gzip"})
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        data = squeeze.compress(head[:-10] + b'"x": "')
        while True:
            data += squeeze.compress(b"x" * (1 << 20))
            if len(data) > 4096:
                self.chunk(data)
                data = b""

    def watch(self, path, said, query):
        """What happens, or what is said instead."""
        api, kind, items = KINDS[path]
        self.begin()

        def event(sort, item):
            self.chunk(json.dumps({"type": sort, "object": {"apiVersion": api, "kind": kind, **item}}).encode() + b"\n")

        initial = "sendInitialEvents" in query
        if initial and "silent" not in said:
            for item in items:
                event("ADDED", item)
        if initial and not {"silent", "added", "bookmark", "trickle", "close"} & set(said):
            event("BOOKMARK", {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}})
        if initial and "bookmark" in said:
            event("BOOKMARK", {"metadata": {"resourceVersion": "5"}})
        end = time.monotonic() + (2 if initial and "close" in said else float(query.get("timeoutSeconds", 300)))
        while time.monotonic() < end:
            time.sleep(min(1, max(0, end - time.monotonic())))
            if initial and "trickle" in said and items:
                event("MODIFIED", items[0])
        self.chunk(b"")


class Server(ThreadingHTTPServer):
    """Clients that go away are nothing to speak of."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        """A client that went away."""
        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


def main():
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--client-ca")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    WORDS.extend(options.words)
    server = Server((options.address, options.port), Handler)
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("listening", flush=True)
    threading.Thread(target=server.serve_forever).run()


if __name__ == "__main__":
    main()
