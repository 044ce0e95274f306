"""Checks are counted, and bounded by a time; what fails names itself."""

import subprocess as sp
import time
import traceback

from lab import Failed


class Report:
    """What passed, failed and was left out."""

    def __init__(self, minutes):
        self.began, self.minutes = time.monotonic(), minutes
        self.passed, self.failed, self.left_out, self.skipped = 0, [], [], 0

    def elapsed(self):
        """Seconds since the start."""
        return time.monotonic() - self.began

    def remaining(self):
        """Seconds of the budget that are left."""
        return self.minutes * 60 - self.elapsed()

    def has_time(self, name, seconds):
        """Whether a part that takes about so long fits; if not, that it was left out is said."""
        if self.remaining() >= seconds:
            return True
        self.left_out.append(name)
        self.say(f"left out  {name}: {max(0, self.remaining()):.0f} s left, it takes about {seconds} s")
        return False

    def say(self, text):
        """A line, with the time."""
        print(f"{self.elapsed():5.0f}s {text}", flush=True)

    def check(self, name, action, *arguments):
        """One check; true if it passed. Others go on after it. On a busy machine a time may run out: what fails is tried again."""
        first = self._attempt(name, action, *arguments)
        if first is None:
            return True
        self.say(f"again {name}: {first}")
        second = self._attempt(f"{name} (at the second attempt)", action, *arguments)
        if second is not None:
            self.fail(name, f"twice: {second}")
        return second is None

    def _attempt(self, name, action, *arguments):
        """Why it failed; None if it passed."""
        try:
            found = action(*arguments)
        except Failed as failure:
            return str(failure)
        except (OSError, sp.SubprocessError, ValueError, KeyError, IndexError):
            return traceback.format_exc(limit=-3)
        self.ok(name, found)
        return None

    def ok(self, name, found=None):
        """A check that passed, and a word on it."""
        self.passed += 1
        self.say(f"ok    {name}{f': {found}' if isinstance(found, str) and found else ''}")

    def fail(self, name, why):
        """A check that failed."""
        self.failed.append(name)
        self.say(f"FAIL  {name}: {why}")

    def summary(self):
        """The last lines."""
        if self.left_out:
            print(f"left out for the time: {', '.join(self.left_out)}")
        if self.skipped:
            print(f"{self.skipped} tests skip themselves here")
        for name in self.failed:
            print(f"failed: {name}")
        print(f"{self.passed} passed, {len(self.failed)} failed")
