"""A Service's external IP is a client's own address: that client still reaches every virtual IP, from every address of its.

The replies are addressed to what the portal takes for its own.
"""

import machines

OTHER = "10.91.1.3"


def run(site):
    """In each portal, and over both families."""
    site.client.ip(f"addr add {OTHER}/24 dev eth0")
    for ip in machines.PODS[:2]:
        site.serve(site.pods, f"pod-{ip}", f"{ip}:8080:pod")
    site.serve(site.pods, "pod6", "fd91:2::11:8080:pod")
    claims = [machines.service("claim", "10.96.0.90", 7777, [machines.PODS[0]], external=[machines.CLIENT])]
    claims.append(machines.service("claim6", "fd96::90", 7777, ["fd91:2::11"], external=["fd91:1::2"]))
    six = machines.service("web6", "fd96::80", 80, ["fd91:2::11"])
    for portal in ("netns", "host"):
        path = site.manifest(machines.web(), six, *claims)
        portico = site.portico("--manifests", path, "--portal", portal)
        for source, vip in ((machines.CLIENT, machines.VIP), (OTHER, machines.VIP), ("fd91:1::2", "fd96::80")):
            how = site.ask(site.client, "ask", vip, 80, 2, source)
            site.check(f"{portal}: from {source} to {vip}", how, is_=["ok", "pod"])
        site.check(f"{portal}: the claim, from the node", site.ask(site.node, "ask", machines.CLIENT, 7777), is_=["ok", "pod"])
        site.end(portico)
