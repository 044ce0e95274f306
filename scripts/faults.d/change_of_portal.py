"""The portal changes from host to netns within a minute: clients that use their ports again are served.

The host's namespace keeps connections that have ended in TIME_WAIT, and the kernel forwards no packet that it has a
socket for.
"""

import machines

COUNT = 500


def run(site):
    """The same ports of one client, before and after."""
    for ip in machines.PODS[:2]:
        site.serve(site.pods, f"pod-{ip}", f"{ip}:8080:pod")
    path = site.manifest(machines.web())
    for first in ("host", "netns"):
        for portal in (first, "netns"):
            portico = site.portico("--manifests", path, "--portal", portal)
            ends = site.ask(site.client, "reuse", machines.CLIENT, machines.VIP, 80, 30000, COUNT, patience=400)
            site.check(f"{first}, then netns: connections served by {portal}", ends.get("ok", 0), is_=COUNT)
            site.end(portico)
