"""Every connection that ends with portico hears of it, and nothing stays in the kernel that could mislead a packet.

After SIGTERM, after SIGKILL, and after a drain that ran out; through virtual IPs and node ports; idle connections, and
some that do not read what they are sent.
"""

import json
import signal

import machines

COUNT = 100


def run(site):
    """Each way to end, with clients that hold connections."""
    site.serve(site.pods, "echo", f"{machines.PODS[0]}:8081:echo")
    echo = machines.service("echo", "10.96.0.81", 81, machines.PODS[:1], target=8081, node_port=30081)
    external = machines.service("external", "10.96.0.82", 82, machines.PODS[:1], target=8081, external=["203.0.113.9"])
    path = site.manifest(echo, external)
    ways = [(signal.SIGTERM, []), (signal.SIGTERM, ["--drain-timeout", "1s"]), (signal.SIGKILL, [])]
    for portal in ("netns", "host"):
        for place in (("10.96.0.81", 81), (machines.NODE, 30081)):
            for number, args in ways:
                held(site, portal, place, number, args, path)
        left(site, portal)
    site.check("after --cleanup", marks(site), is_=[])


def held(site, portal, place, number, args, path):
    """Holds connections over an end, and counts what they heard."""
    portico = site.portico("--manifests", path, "--portal", portal, *args)
    label = f"hold{site.started}"
    process = site.script(site.client, label, "hold", *place, COUNT, 6, "word")
    site.need(lambda: "held" in site.lab.log(label), "connections are held")
    site.end(portico, number)
    process.wait(60)
    heard = json.loads(site.lab.log(label).splitlines()[-1])
    told = heard.get("FIN", 0) + heard.get("ConnectionResetError", 0)
    what = f"{portal}, {place[0]}, {number.name} {' '.join(args)}".strip()
    site.check(f"{what}: connections told", told, is_=COUNT)
    if number == signal.SIGTERM:
        site.check(f"{what}: left in the kernel", marks(site), is_=[])


def left(site, portal):
    """After SIGKILL: what is left leads nowhere (netns), or to this host, which refuses (host)."""
    site.need(lambda: "vethportico" not in site.node.ip("-o link").stdout, "the kernel has removed the link")
    how, _ = site.ask(site.node, "ask", "10.96.0.81", 81)
    expected = {"netns": ["TimeoutError", "OSError"], "host": ["ConnectionRefusedError"]}[portal]
    site.check(f"{portal}, after SIGKILL, a virtual IP: {how} is one of {expected}", how in expected, is_=True)
    site.node.run(site.program, "--cleanup")


def marks(site):
    """Everything in the kernel that carries our marks."""
    shown = [site.node.ip(f"{family} {what}").stdout for family in ("-4", "-6") for what in ("route show table all proto 112", "rule")]
    lines = [line.strip() for text in shown for line in text.splitlines()]
    return [line for line in lines if "7112" in line or "proto 112" in line or "vethportico" in line]
