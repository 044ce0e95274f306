"""The Kubernetes API from Python, as little of it as the scripts need, and the objects that they use."""

import http.client
import json
import queue
import ssl
import threading
import time
import urllib.parse

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
SERVICES = "/api/v1/namespaces/default/services"
PORT = [{"name": "http", "port": 8080, "protocol": "TCP"}]


class Api:
    """One connection to an apiserver; a thread needs its own."""

    def __init__(self, url, folder=None):
        """`folder`: the certificates of a cluster that real-apiserver made."""
        address = urllib.parse.urlsplit(url)
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=folder / "ca.crt")
            context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
            self.connection = http.client.HTTPSConnection(address.netloc, context=context)
        else:
            self.connection = http.client.HTTPConnection(address.netloc)

    def call(self, method, path, body=None):
        """A request and its answer."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:200]}")
        return json.loads(answer)

    def move(self, name, addresses):
        """Gives an EndpointSlice other endpoints."""
        return self.call("PATCH", f"{SLICES}/{name}", {"endpoints": endpoints(addresses)})

    def watch(self, name):
        """Watches one EndpointSlice: a queue of the moments at which an event arrived."""
        version = self.call("GET", f"{SLICES}?limit=1")["metadata"]["resourceVersion"]
        self.connection.request("GET", f"{SLICES}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3D{name}")
        response, moments = self.connection.getresponse(), queue.Queue()

        def read():
            while response.readline():
                moments.put(time.perf_counter())

        threading.Thread(target=read, daemon=True).start()
        return moments


def endpoints(addresses):
    """Ready endpoints."""
    return [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]


def service(name, cluster_ip):
    """A Service with one port, 80 to 8080."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": [PORT[0] | {"port": 80, "targetPort": 8080}]},
    }


def endpoint_slice(name, owner, addresses):
    """An EndpointSlice of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "ports": PORT,
        "endpoints": endpoints(addresses),
    }


def population(services, per_service):
    """What real-apiserver's `populate` writes, by name: Service i and its slice."""
    for index in range(services):
        name, first = f"svc-{index}", index * per_service
        addresses = [address(first + number) for number in range(per_service)]
        yield service(name, f"10.96.{16 + index // 250}.{1 + index % 250}"), endpoint_slice(f"{name}-0", name, addresses)


def address(number):
    """A pod's address."""
    return f"10.{200 + (number >> 16) % 50}.{(number >> 8) & 255}.{number & 255}"
