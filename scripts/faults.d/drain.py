"""While portico drains it serves as ever: no new connection fails, none under way is cut, and clients are told at the end.

kube-proxy's rules outlive it; what replaces portico starts when it has ended, so that whatever it refused meanwhile would
be an outage of every Service on the node.
"""

import json
import signal
import time

import lab as labs
import machines


def run(site):
    """A load of new connections over the whole drain, with some that never end."""
    for ip in machines.PODS[:2]:
        site.serve(site.pods, f"pod-{ip}", f"{ip}:8080:pod")
    site.serve(site.pods, "echo", f"{machines.PODS[0]}:8081:echo")
    echo = machines.service("echo", "10.96.0.81", 81, machines.PODS[:1], target=8081)
    path = site.manifest(machines.web(), echo)
    for portal in ("netns", "host"):
        portico = site.portico("--manifests", path, "--portal", portal, "--drain-timeout", "12s")
        # Held for the drain alone: what they hear at its end comes after that.
        process = site.script(site.client, f"hold-{portal}", "hold", "10.96.0.81", 81, 50, 16, "word")
        site.need(lambda p=portal: "held" in site.lab.log(f"hold-{p}"), "connections are held")
        portico.send_signal(signal.SIGTERM)
        began = time.monotonic()
        for vip, port in ((machines.VIP, 80), (machines.NODE, 30080)):
            figures = site.ask(site.client, "load", vip, port, 2)
            good = {"ok": figures["counts"].get("ok")}
            site.check(f"{portal}: new connections to {vip} while draining", figures["counts"], is_=good)
            site.check(f"{portal}: the slowest of them, s", figures["slowest"], at_most=1)
        # Changes are followed, too.
        site.manifest(machines.web(), echo, machines.service("late", "10.96.0.99", 80, machines.PODS[:2]))
        late = labs.eventually(lambda: site.ask(site.client, "ask", "10.96.0.99", 80)[0] == "ok", 2)
        site.check(f"{portal}: a Service that comes while draining is served", bool(late), is_=True)
        portico.wait(30)
        site.check(f"{portal}: the drain took, s", round(time.monotonic() - began, 1), at_least=11, at_most=16)
        process.wait(30)
        heard = json.loads(site.lab.log(f"hold-{portal}").splitlines()[-1])
        told = heard.get("FIN", 0) + heard.get("ConnectionResetError", 0)
        site.check(f"{portal}: connections told at the end", told, is_=50)
        # Once those that there were have ended, so does the drain, however many have come since.
        site.manifest(machines.web(), echo)
        portico = site.portico("--manifests", path, "--portal", portal, "--drain-timeout", "30s")
        site.script(site.client, f"load-{portal}", "load", machines.VIP, 80, 4)
        time.sleep(1)
        began = time.monotonic()
        site.end(portico)
        site.check(f"{portal}: a drain of short connections took, s", round(time.monotonic() - began, 1), at_most=5)
