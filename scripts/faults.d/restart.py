"""portico is restarted under a load of new connections, by SIGTERM and by SIGKILL: the outage is short, and is no silence.

And a second portico beside a running one is an error that harms nothing.
"""

import json
import signal

import machines


def run(site):
    """Each portal, each signal."""
    for ip in machines.PODS[:2]:
        site.serve(site.pods, f"pod-{ip}", f"{ip}:8080:pod")
    path = site.manifest(machines.web())
    for portal in ("netns", "host"):
        for number, place in ((signal.SIGTERM, (machines.VIP, 80)), (signal.SIGKILL, (machines.VIP, 80)), (signal.SIGTERM, (machines.NODE, 30080))):
            restarted(site, portal, number, place, path)
    portico = site.portico("--manifests", path)
    for portal in ("auto", "netns", "host"):
        second = site.portico("--manifests", path, "--portal", portal, "--healthz-bind-address=", "--metrics-bind-address=", ready=False)
        site.check(f"a second one, portal {portal}, ends with", second.wait(20), is_=1)
        site.check("the first one", site.ask(site.client, "ask", machines.VIP, 80), is_=["ok", "pod"])
    site.end(portico)


def restarted(site, portal, number, place, path):
    """The figures of a load over one restart."""
    portico = site.portico("--manifests", path, "--portal", portal)
    label = f"load{site.started}"
    load = site.script(site.client, label, "load", *place, 6)
    site.need(lambda: site.ask(site.client, "ask", *place)[0] == "ok", "the load is served")
    site.end(portico, number)
    successor = site.portico("--manifests", path, "--portal", portal)
    load.wait(60)
    figures = json.loads(site.lab.log(label))
    what = f"{portal}, {number.name}, {place[0]}"
    site.check(f"{what}: outage, s", figures["outage"], at_most=1.5)
    site.check(f"{what}: connections served of about 1200", figures["counts"].get("ok", 0), at_least=900)
    site.end(successor)
