"""The targets of docs/performance.md, and whether what was measured meets them."""
import dataclasses
import statistics

from cases import FEW
from instruments import spread


@dataclasses.dataclass
class Verdict:
    target: str
    what: str
    measured: str
    limit: str
    # None: not measured.
    holds: object

    def row(self):
        says = {True: "holds", False: "**misses**", None: "not measured"}[self.holds]
        return f"| {self.target} | {self.what} | {self.measured} | {self.limit} | {says} |"


def at_most(target, what, ratios, limit):
    return Verdict(target, what, spread(ratios, digits=3), f"≤ {limit}", statistics.median(ratios) <= limit)


def not_measured(target, what, limit, why):
    return Verdict(target, what, f"not measured: {why}", limit, None)


def judge_scan(measured):
    where = measured.where
    one = measured.ratios("sweeper --jobs 1", "floor")
    two = measured.ratios("sweeper --jobs 2", "floor --threads 2")
    return [
        at_most("P1", f"scan of {measured.entries}, one thread, to the floor, {where}", one, 1.08),
        at_most("P2", f"the same with two threads, to the floor with two threads, {where}", two, 1.08),
    ]


def judge_sweep(measured, jobs):
    where, floor = measured.where, "floor --remove --guarded"
    what = f"sweep, half of {measured.entries} expired, one thread, to a floor that makes the same calls, {where}"
    found = [at_most("P3", what, measured.ratios("sweeper --jobs 1", floor), 1.10)]
    what = f"the same with all threads, to `find -delete`, which checks nothing, {where}"
    return found + [faster(measured, "P4", what, f"sweeper --jobs {jobs}", "find -mtime +0 -delete", "find")]


def judge_trees(measured):
    where, floor = measured.where, "floor --remove --deep --threads 2"
    what = f"{measured.case.recipe.count} trees, half of them expired, two threads"
    ignore = measured.ratios("sweeper --in-use ignore --jobs 2", floor)
    to_find = f"{what}, to `find -delete`, {where}, --in-use skip"
    return [
        at_most("P5", f"{what}, to a floor that judges every file, {where}, --in-use ignore", ignore, 1.25),
        faster(measured, "P5", to_find, "sweeper --in-use skip --jobs 2", "find -mtime +13 -delete", "find"),
    ]


def judge_everything(measured, jobs):
    where, rmz, rm = measured.where, "rmz, judging nothing", "rm -rf, judging nothing"
    what = f"{measured.case.recipe.count} expired trees judged and removed"
    ignore, skip = (f"sweeper --in-use {in_use} --jobs {jobs}" for in_use in ("ignore", "skip"))
    return [
        faster(measured, "P6", f"{what}, to `rmz`, {where}, --in-use ignore", ignore, rmz, "rmz", 1.5),
        faster(measured, "P6", f"{what}, to `rm -rf`, {where}, --in-use skip", skip, rm, "rm"),
    ]


def faster(measured, target, what, ours, theirs, program, limit=1.0):
    """Our time to that of another program."""
    if theirs in measured.runs:
        return at_most(target, what, measured.ratios(ours, theirs), limit)
    return not_measured(target, what, f"≤ {limit}", f"{program} is not installed")


def judge_instances(measured):
    ours, floor = "sweeper legacy --older-than 3650d --jobs 2", "floor --both --threads 2"
    what = f"legacy, {measured.entries} instances, nothing expired, two threads, to a floor that looks at the same two places"
    return [at_most("P7", f"{what}, {measured.where}", measured.ratios(ours, floor), 1.08)]


def judge_cold(measured):
    find, one, two = (command.label for command in measured.commands)
    what = f"{measured.case.title}, {measured.where}"
    return [
        at_most("P14", f"{what}, one worker, to `{find}`", measured.ratios(one, find), 1.0),
        at_most("P14", f"{what}, two workers, to `{find}`", measured.ratios(two, find), 1.0),
        at_most("P14", f"{what}, two workers, to one", measured.ratios(two, one), 1.0),
    ]


def judge_usage(measured):
    ours, floor = "sweeper usage --jobs 2", "floor --deep --ttl 1 --threads 2"
    what = f"usage of {measured.case.recipe.count} trees, two threads"
    to_floor = f"{what}, to a floor that looks at every file, {measured.where}"
    found = [at_most("P15", to_floor, measured.ratios(ours, floor), 1.2)]
    for label in ("du -s", "dua", "gdu", "agedu -s"):
        program = label.split()[0]
        found.append(faster(measured, "P15", f"{what}, to `{program}`, {measured.where}", ours, label, program))
    return found


def judge_peak(many, few_peaks):
    """Peak memory of a large scan, and how it compares with that of a small one."""
    found = []
    for jobs in (1, 2):
        label = f"sweeper --jobs {jobs}"
        peak, few = many.peak(label), few_peaks[label]
        if peak != peak:
            return [not_measured("P9", "peak memory", "≤ 8 MiB", "GNU time is not installed")]
        what = f"peak memory of a scan of {many.entries}, --jobs {jobs}"
        found.append(Verdict("P9", what, f"{peak:.1f} MiB", "≤ 8 MiB", peak <= 8))
        more = peak - few
        what = f"the same, above the peak for {FEW}"
        found.append(Verdict("P9", what, f"{more:+.2f} MiB", "≤ +0.5 MiB", more <= 0.5))
    return found


def judge_growth(many, few):
    found = []
    for jobs in (1, 2):
        label = f"sweeper --jobs {jobs}"
        grown, floor = (many.ns_per_entry(name) / few.ns_per_entry(name) for name in (label, "floor"))
        what = f"ns per entry at {many.entries} to that at {FEW}, relative to the floor's own growth ({floor:.2f}), --jobs {jobs}"
        found.append(Verdict("P10", what, f"{grown / floor:.2f}", "≤ 1.15", grown / floor <= 1.15))
    return found


def judge_redis(target, measured, why, sizes, expired):
    limit = 300 if expired else 2000
    kind = "expired" if expired else "fresh"
    what = f"{sizes.locked} {kind} exports under the Redis lock: times as fast as CVAT's cleaner"
    if measured is None:
        return not_measured(target, what, f"≥ {limit}", why)
    ours, theirs = measured
    times = theirs / statistics.median(ours)
    figures = f"{times:.0f} ({statistics.median(ours):.2f} to {theirs:.0f} us a file, CVAT's over {sizes.cleaner} files)"
    return Verdict(target, what, figures, f"≥ {limit}", times >= limit)


def judge_calls(kept, removed):
    # The calls that list the directory are shared by hundreds of files.
    limit = "1, and its share of listing the directory"
    return [
        Verdict("P11", "system calls for a file that is kept", f"{kept:.3f}", limit, round(kept, 2) <= 1.0),
        Verdict("P11", "system calls for a file that is removed", f"{removed:.2f}", "≤ 10", removed <= 10),
    ]


def judge_start(cpu, calls):
    what = "a pass over an empty volume: "
    found = [Verdict("P12", what + "processor time", f"{cpu:.2f} ms", "≤ 3 ms", cpu <= 3)]
    if calls is None:
        return found + [not_measured("P12", what + "system calls", "≤ 400", "neither perf nor strace works here")]
    return found + [Verdict("P12", what + "system calls", f"{calls:.0f}", "≤ 400", calls <= 400)]


def judge_idle(seconds):
    what = "processor time of --jobs 32 --max-rate 10/s in 6 s"
    cpu = statistics.median(seconds)
    return Verdict("P18", what, f"{cpu:.3f} s", "≤ 0.05 s", cpu <= 0.05)
