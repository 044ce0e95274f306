"""The bench's network: one client, one backend, and between them a node for each candidate.

    client --10.202.N.0/24-- node N --10.201.N.0/24-- backend

A node of its own keeps one candidate's netfilter hooks, routes and listeners out of the way of the others, so that all
of them stay up and take turns workload by workload. Candidate N serves 10.96.100.N.
"""

import dataclasses
import sys

PORTS = {"http": 80, "iperf": 5201, "dns": 53, "burst": 7}
TARGETS = {"http": 8080, "iperf": 5201, "dns": 5353, "burst": 7007}

NGINX = """
worker_processes 2; pid {folder}/backend.pid; error_log /dev/null; daemon off;
events {{ worker_connections 9000; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on;
  server {{
    listen 8080 backlog=65535 reuseport;
    root {folder}/www;
    location / {{ return 200 "hello from backend\\n"; }}
    location /files/ {{ }}
  }}
}}
"""

NSD = """
server:
  ip-address: 0.0.0.0@5353
  zonesdir: {folder}
  pidfile: ""
  username: ""
  chroot: ""
  zonelistfile: {folder}/nsd.zones
  xfrdfile: ""
  database: ""
  server-count: 1
  reuseport: yes
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: svc.test.
  zonefile: zone
"""

ZONE = """$ORIGIN svc.test.
@ 60 SOA a b 1 1 1 1 1
@ 60 NS a
a 60 A 10.0.0.1
web 60 A 10.0.0.2
"""


@dataclasses.dataclass
class Node:
    """One candidate's node, and the addresses that matter on it."""

    namespace: object
    vip: str
    endpoints: list


class Topology:
    """Client, backend and the programs that every candidate shares."""

    def __init__(self, lab, traffic):
        self.lab, self.traffic, self.nodes = lab, traffic, 0
        self.client, self.backend = lab.namespace("client"), lab.namespace("backend")
        self.queries = lab.file("queries", "web.svc.test A\n")
        self.start_backends()

    def start_backends(self):
        """Web server, iperf3, name server, and a server of small writes; they listen on every address."""
        files = self.lab.folder / "www" / "files"
        files.mkdir(parents=True)
        (files / "1m").write_bytes(bytes(1 << 20))
        with open(files / "huge", "wb") as huge:
            huge.truncate(1 << 34)
        nginx = self.lab.file("backend.conf", NGINX.format(folder=self.lab.folder))
        self.lab.file("zone", ZONE)
        nsd = self.lab.file("nsd.conf", NSD.format(folder=self.lab.folder))
        self.backend.start("backend-nginx", "nginx", "-c", nginx)
        self.backend.start("backend-iperf3", "iperf3", "-s", "-p", TARGETS["iperf"])
        self.backend.start("backend-nsd", "nsd", "-d", "-c", nsd)
        self.backend.start("backend-burst", sys.executable, self.traffic, "serve", TARGETS["burst"])

    def node(self, label):
        """Another node between client and backend."""
        self.nodes += 1
        number = self.nodes
        node = self.lab.namespace(label)
        self.lab.link(node, "client", [f"10.202.{number}.1/24"], self.client, f"node{number}", [f"10.202.{number}.2/24"])
        endpoints = [f"10.201.{number}.{host}" for host in (2, 3)]
        self.lab.link(node, "backend", [f"10.201.{number}.1/24"], self.backend, f"node{number}", [f"{ip}/24" for ip in endpoints])
        vip = f"10.96.100.{number}"
        self.client.ip(f"route add {vip} via 10.202.{number}.1")
        self.client.ip(f"route add 10.201.{number}.0/24 via 10.202.{number}.1")
        self.backend.ip(f"route add 10.202.{number}.0/24 via 10.201.{number}.1")
        # Never used; kube-proxy wants one to find out its own address.
        node.ip(f"route add default via 10.202.{number}.2")
        return Node(node, vip, endpoints)
