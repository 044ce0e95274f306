"""Kubernetes' own e2e tests, by the cluster's script for them: which, and what came of each."""

import os
import pathlib
import re
import shutil
import signal
import subprocess as sp

from lab import Failed

HERE = pathlib.Path(__file__).parent


def names(file):
    """The names in a list of tests: a line each, comments aside."""
    lines = (line.strip() for line in (HERE / file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def focus(beginnings):
    """The regular expression for tests whose name begins with one of these."""
    # Not re.escape: Go knows no escaped space.
    return "|".join(re.sub(r"([\\.+*?()|\[\]{}^$/])", r"\\\1", name) for name in beginnings)


def exactly(name):
    """The regular expression for the test of this name."""
    return f"{focus([name.strip()])} *$"


class Outcome:
    """One test's."""

    def __init__(self, line, folder):
        self.status, self.took, number, self.name = line.split("\t", 3)
        self.log = folder / f"{number}.log"

    def cause(self):
        """What the test itself says was wrong."""
        text = self.log.read_text(errors="replace")
        found = re.search(r"^.*FAIL: .*$|^\[Fail\].*$|^Timed out.*$|^panic:.*$", text, re.M)
        return (found[0] if found else text.strip()[-200:]).strip()


def run(cluster, label, expression, jobs, seconds=None):
    """Runs the tests that match, or those that the script chooses, and keeps their logs below `label`; ends the rest when
    the time is over. Returns outcomes, and whether some were left out."""
    said = cluster.folder / f"e2e-{label}.log"
    # An empty third argument: none of them is skipped.
    arguments = [cluster.scripts / "e2e", cluster.folder, *([expression, ""] if expression else [])]
    environment = os.environ | {"JOBS": str(jobs), "KNOWN": "/dev/null"}
    with open(said, "wb") as log:
        process = sp.Popen(arguments, env=environment, stdin=sp.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    cut = False
    try:
        process.wait(seconds)
    except sp.TimeoutExpired:
        cut = True
    finally:
        # Its tests with it, also when we are interrupted.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    folder, kept = cluster.folder / "e2e", cluster.folder / f"e2e-{label}"
    shutil.rmtree(kept, ignore_errors=True)
    if not (folder / "results").exists():
        raise Failed(f"no test has ended: {said.read_text(errors='replace').strip()[-300:]}")
    shutil.move(folder, kept)
    # What ended tests leave makes load.
    cluster.kubectl("delete", "namespaces", "-l", "e2e-framework", "--wait=false", check=False)
    return [Outcome(line, kept) for line in (kept / "results").read_text().splitlines()], cut
