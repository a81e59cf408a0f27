"""How benches/compare measures a case: in rounds, in which every command of the case runs once."""
import os
import statistics
import time

import instruments as kit
from cases import FEW_ROUNDS
from instruments import run_once, say, spread, system_calls

RETRIES = 5


class Measured:
    """The runs of a case on a file system, in rounds."""

    def __init__(self, case, stage):
        self.case, self.where = case, stage.name
        self.commands = [command for command in case.commands if command]
        self.runs = {command.label: [] for command in self.commands}
        self.remarks = {command.label: set() for command in self.commands}
        self.calls = {}
        self.entries = 0

    def ratios(self, label, base, what="wall"):
        pairs = zip(self.runs[label], self.runs[base])
        return [getattr(run, what) / max(getattr(other, what), 1e-6) for run, other in pairs]

    def ns_per_entry(self, label):
        return statistics.median(run.wall for run in self.runs[label]) * 1e9 / self.entries

    def peak(self, label):
        return max(run.peak_mib for run in self.runs[label])

    def rounds(self):
        """How many there were: of most commands, and of the rest."""
        counts = sorted({len(runs) for runs in self.runs.values()}, reverse=True)
        return f"{counts[0]} rounds" + "".join(f", {count} of programs that no target mentions" for count in counts[1:])

    def table(self):
        lines = [
            f"\n### {self.case.title} ({self.where}, {self.entries} entries, {self.rounds()})\n",
            "| Command | wall, median (range) | CPU | ns/entry | peak MiB | calls/entry |",
            "|---|---|---|---|---|---|",
        ]
        for command in self.commands:
            label = command.label
            remarks = "; ".join(sorted(self.remarks[label]))
            calls = f"{self.calls[label]:.2f}" if label in self.calls else ""
            lines.append(
                f"| {label}{f' ({remarks})' if remarks else ''} | {spread(self.ratios(label, self.base))} "
                f"| {statistics.median(self.ratios(label, self.base, 'cpu')):.2f} "
                f"| {self.ns_per_entry(label):.0f} | {'' if self.case.lean else f'{self.peak(label):.1f}'} | {calls} |"
            )
        return "\n".join(lines)

    @property
    def base(self):
        """What the ratios of the table refer to: the floor."""
        return self.commands[0].label


def measure(case, stage, scratch, calls):
    """Runs the commands of a case in rounds; `calls` are their system calls per entry."""
    measured = Measured(case, stage)
    measured.calls = calls
    volume = None
    if not case.removes:
        volume = stage.make(case.recipe)
        # The first run on a new volume fills the caches for the others.
        for command in measured.commands[:3]:
            run_once(command.argv(volume), scratch)
    for round_ in range(case.rounds):
        say(f"  {stage.name}, round {round_ + 1} of {case.rounds}: {case.title}")
        first = round_ % len(measured.commands)
        for command in measured.commands[first:] + measured.commands[:first]:
            if command.aside and round_ >= FEW_ROUNDS:
                continue
            volume, run = run_calmly(case, command, stage, scratch, volume)
            measured.runs[command.label].append(run)
            measured.remarks[command.label] |= remarks_on(case, command, volume, run)
    measured.entries = volume.entries
    return measured


def run_calmly(case, command, stage, scratch, volume):
    """One run, repeated while other processes keep the machine busy."""
    for _ in range(RETRIES):
        if case.removes:
            volume = stage.make(case.recipe)
            os.sync()
        run = run_once(command.argv(volume), scratch, case.lean)
        if not run.disturbed:
            break
        time.sleep(0.3)
    return volume, run


def remarks_on(case, command, volume, run):
    """What is reported about a run besides its figures. It is an error if a run of ours did not do its work."""
    remarks = set()
    if run.code != 0:
        remarks.add(f"exit {run.code}")
    if case.removes:
        left = len(os.listdir(volume.place)) if volume.place.exists() else 0
        more = left - (volume.units - volume.expired)
        if more:
            remarks.add(f"{abs(more)} too {'many' if more > 0 else 'few'} left")
    if command.ours and remarks:
        raise RuntimeError(f"{command.label}: {', '.join(remarks)}\n{run.output[-2000:]}")
    if run.disturbed:
        remarks.add("disturbed")
    return remarks


def calls_per_entry(case, builder, scratch):
    """System calls per entry without those of the start: the difference between a small volume and one twice as large."""
    if not case.counted or not kit.counter(scratch):
        return {}
    stage, found = kit.Tmpfs(scratch, builder), {}
    for command in filter(None, case.commands):
        if not command.counted:
            continue
        totals = []
        for size in (case.counted, 2 * case.counted):
            volume = stage.make(case.recipe.of(size))
            totals.append((system_calls(command.argv(volume), scratch), volume.entries))
        (calls, entries), (more_calls, more_entries) = totals
        found[command.label] = (more_calls - calls) / (more_entries - entries)
    stage.close()
    return found
