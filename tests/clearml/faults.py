"""Faults on request: which of them a request meets.

A fault is an object: `match` names the requests (`tasks.delete_many`, `files:DELETE`, `files:delete_many`,
with `*` for anything), `has` is a text that the path or body must have, `skip` the requests that pass before
it, `times` how often it happens (null: always), and `do` its kind. The kinds are listed in `KINDS`.
"""

import fnmatch
import threading

# In place of the answer. The request is not carried out, unless the fault says `"after": true`.
INSTEAD = ("status", "not_json", "wrong_envelope", "redirect")
# Something on the way: `huge` replaces the answer too, the others send the right one, or a part, or nothing.
WIRE = ("huge", "close", "close_after", "hang", "slow", "slow_drip", "truncate", "clock")
# The answer arrives, and is wrong, or is not true any more when it arrives.
DATA = ("drop_filter", "live_rows", "repeat_page", "endless_scroll", "refuse", "vanish", "clamp", "claim")
KINDS = INSTEAD + WIRE + DATA


class Faults:
    """The faults that are set."""

    def __init__(self):
        self._lock = threading.Lock()
        self._faults = []

    def set(self, faults):
        """Replaces all faults. An unknown kind is an error of the test."""
        for fault in faults:
            if fault.get("do") not in KINDS or "match" not in fault:
                raise ValueError(f"not a fault: {fault}")
        with self._lock:
            self._faults = [{**fault, "met": 0, "hits": 0} for fault in faults]

    def take(self, names, text):
        """The faults that a request meets, by kind."""
        taken = {}
        with self._lock:
            for fault in self._faults:
                is_meant = any(fnmatch.fnmatchcase(name, fault["match"]) for name in names)
                if not is_meant or fault.get("has", "") not in text:
                    continue
                fault["met"] += 1
                times = fault.get("times")
                if fault["met"] <= fault.get("skip", 0) or (times is not None and fault["hits"] >= times):
                    continue
                fault["hits"] += 1
                taken.setdefault(fault["do"], fault)
        return taken

    def as_json(self):
        """The faults, each with `met` (requests it was meant for) and `hits` (how often it happened)."""
        with self._lock:
            return [dict(fault) for fault in self._faults]
