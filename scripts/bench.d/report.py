"""Markdown from measurements: a table for each workload, and design.md section 5 line by line."""

import dataclasses
import statistics
from collections.abc import Callable

PORTALS = {"netns": "portico-netns", "host": "portico-host"}


class Results:
    """workload -> candidate -> one measurement a round."""

    def __init__(self, rounds):
        self.rounds = rounds

    def values(self, workload, candidate, field):
        """One value a round, None where there is none."""
        return [m.get(field) for m in self.rounds.get(workload, {}).get(candidate, [])]

    def median(self, workload, candidate, field):
        """The median over rounds, or None."""
        values = [value for value in self.values(workload, candidate, field) if value is not None]
        return statistics.median(values) if values else None

    def first(self, workload, candidate, field):
        """What the first round found, or None."""
        return next((value for value in self.values(workload, candidate, field) if value is not None), None)

    def ratio(self, workload, candidate, peers, field, best=max):
        """The median over rounds of what the candidate did to what the best peer did in the same round."""
        columns = [self.values(workload, peer, field) for peer in peers]
        ratios = []
        for index, own in enumerate(self.values(workload, candidate, field)):
            others = [column[index] for column in columns if index < len(column) and column[index]]
            if own and others:
                ratios.append(own / best(others))
        return statistics.median(ratios) if ratios else None


def table(header, rows):
    """A Markdown table; the first column is text, the others are figures."""
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def figure(value, digits=None, scale=1):
    """A number with as many digits as matter."""
    if value is None:
        return "-"
    value *= scale
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def workload_table(results, key, workload, names):
    """What every candidate did with one workload."""
    bulk = workload.unit == "GB"
    cost, scale = ("s", 1) if bulk else ("us", 1e6)
    header = ["", workload.rate, "of direct", "p50 ms", "p99 ms", f"CPU {cost}/{workload.unit}", f"machine {cost}/{workload.unit}", "PSS MB"]
    idle = any(results.median(key, name, "kb_per_connection") is not None for name in names)
    header += ["KB/connection", "files/connection"] if idle else []
    rows = []
    for name in names:
        def value(field, scale=1, digits=None):
            return figure(results.median(key, name, field), digits, scale)  # noqa: B023

        through = name not in ("direct", "kernel-dnat")
        row = [name, value("rate"), figure(results.ratio(key, name, ["direct"], "rate"), 2), value("p50", digits=3), value("p99", digits=3)]
        row += [value("cpu_per_unit", scale) if through else "-", value("machine_per_unit", scale)]
        row += [value("pss_kb", 1 / 1024) if through else "-"]
        if idle:
            # Of the first round: later ones find the memory that it took still there.
            memory = figure(results.first(key, name, "kb_per_connection"), 2)
            row += [memory if through else "-", value("files_per_connection") if through else "-"]
        rows.append(row)
    return f"### {workload.title}\n\n{table(header, rows)}"


def errors(results, names):
    """What went wrong in which workload, once each."""
    lines = []
    for key, candidates in results.rounds.items():
        for name in names:
            # Of what a program wrote as it died the last line says why.
            said = {m["errors"].strip().splitlines()[-1] for m in candidates.get(name, []) if m.get("errors", "").strip()}
            lines += [f"- {key}, {name}: {text}" for text in sorted(said)]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Line:
    """One promise: a ratio, and which side of the bound it must be on."""

    text: str
    bound: float
    measure: Callable
    at_least: bool = True

    def row(self, results):
        """Line, required, measured, verdict."""
        ratio = self.measure(results)
        required = f"{'at least' if self.at_least else 'at most'} {self.bound:.2f}x"
        if ratio is None:
            return [self.text, required, "-", "not measured"]
        holds = ratio >= self.bound if self.at_least else ratio <= self.bound
        return [self.text, required, f"{ratio:.2f}x", "holds" if holds else "**short**"]


def requirements():
    """design.md section 5, as far as it is about traffic."""
    proxies, lines = ["haproxy", "nginx"], []

    def add(text, bound, workload, portal, peers, field="rate"):
        at_least = field == "rate"

        def measure(results):
            return results.ratio(workload, PORTALS[portal], peers, field, max if at_least else min)

        lines.append(Line(f"{text}, {portal} portal", bound, measure, at_least))

    for portal, kept, kept_cpu, fresh in (("netns", 0.95, 1.0, 0.9), ("host", 1.0, 0.9, 1.0)):
        add("64 kept connections, requests/s to the best of HAProxy and nginx", kept, "http-64", portal, proxies)
        add("64 kept connections, CPU per request to the best of HAProxy and nginx", kept_cpu, "http-64", portal, proxies, "cpu_per_unit")
        add("a connection per request, rate to the best of HAProxy and nginx", fresh, "connect", portal, proxies)
        bare = [f"bare-{portal}"]
        add("64 kept connections, CPU per request to the bare loop", 1.1, "http-64", portal, bare, "cpu_per_unit")
        add("a connection per request, CPU to the bare loop", 1.1, "connect", portal, bare, "cpu_per_unit")
        add("one connection, p50 to HAProxy", 1.1 if portal == "netns" else 1.0, "http-1", portal, ["haproxy"], "p50")
        for streams, words in ((1, "one stream"), (8, "eight streams")):
            for way in ("up", "down"):
                workload = f"bulk-{streams}-{way}"
                add(f"{words} {way}, rate to kube-proxy userspace", 1.1, workload, portal, ["kube-proxy"])
                add(f"{words} {way}, CPU per byte to kube-proxy userspace", 1.0, workload, portal, ["kube-proxy"], "cpu_per_unit")
        add("DNS from 32 ports, queries/s to kernel DNAT", 0.8, "dns-32", portal, ["kernel-dnat"])
        add("DNS from 2,000 ports, queries/s to kernel DNAT", 0.8, "dns-2000", portal, ["kernel-dnat"])
    return lines


def requirement_table(results):
    """The lines whose figures this run has."""
    header = ["what", "required", "measured", "verdict"]
    rows = [row for row in (line.row(results) for line in requirements()) if row[3] != "not measured"]
    return table(header, rows) if rows else ""


def replace_section(path, name, text):
    """Puts text between the markers `<!-- name:begin -->` and `<!-- name:end -->` of a Markdown file."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path}: no section between {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
