"""What benches/compare measures: volumes of several shapes, and how each program is asked to do the same job."""
import dataclasses
import functools
import sys
from pathlib import Path

from instruments import Recipe, tool

CLEANER = Path(__file__).with_name("cvat_cleaner.py")
ROUNDS = 7
# For programs that no target mentions.
FEW_ROUNDS = 3
# For runs so short that their ratios spread.
MANY_ROUNDS = 11


@dataclasses.dataclass
class Sizes:
    scan: int
    sweep: int
    trees: int
    instances: int
    locked: int
    cleaner: int
    kinds: int
    cold: int


SHORT = Sizes(scan=200_000, sweep=100_000, trees=2_000, instances=30_000, locked=20_000, cleaner=1_000, kinds=50_000, cold=200_000)
FULL = Sizes(scan=1_000_000, sweep=200_000, trees=2_000, instances=100_000, locked=20_000, cleaner=20_000, kinds=200_000, cold=200_000)
FEW = 10_000


@dataclasses.dataclass
class Command:
    label: str
    # From a volume to the words of the command.
    argv: object
    # Whether it must leave exactly what has not expired. Of other programs a difference is only reported.
    ours: bool = False
    # Whether its system calls are counted.
    counted: bool = False
    # Whether no target mentions it.
    aside: bool = False


@dataclasses.dataclass
class Case:
    title: str
    recipe: Recipe
    commands: list
    # Whether the volume must be built again before every run.
    removes: bool
    # The size of the small volumes on which system calls are counted; 0: they are not.
    counted: int = 0
    # Whether peak memory is left out.
    lean: bool = False
    rounds: int = ROUNDS


# ---- the commands ----


class Commands:
    """How each program is asked to do the same job. A method returns None if its program is not installed."""

    def __init__(self, sweeper, floor, jobs, scratch):
        self.sweeper_path, self.floor_path, self.jobs, self.scratch = sweeper, floor, jobs, scratch

    def sweeper(self, label, *words, command="run"):
        def argv(volume):
            return [self.sweeper_path, command, "--data", volume.data, "--format", "json", *words]

        return Command(f"sweeper {label}".strip(), argv, ours=True, counted=True)

    def exports(self, jobs, *words, label=""):
        label = f"--jobs {jobs}{label}"
        return self.sweeper(label, "--zones", "export", "--lock", "flock", "--jobs", jobs, *words)

    def trees(self, jobs, in_use):
        label = f"--in-use {in_use} --jobs {jobs}"
        return self.sweeper(label, "--zones", "tmp", "--in-use", in_use, "--jobs", jobs)

    def floor(self, mode, *words):
        label = " ".join(["floor", *words])
        return Command(label, lambda volume: [self.floor_path, mode, volume.place, *words], True, True)

    @staticmethod
    def of_tool(label, names, words, counted=False, aside=False):
        program = tool(*names)
        if program is None:
            return None
        return Command(label, lambda volume: [program, *words(volume)], counted=counted, aside=aside)

    def find(self, label, days, *words, depth=("-mindepth", "1")):
        def argv(volume):
            return [volume.place, *depth, "-mtime", f"+{days}", *words]

        return self.of_tool(label, ["find"], argv, counted=True)

    def fd(self, label, age, words, how):
        def argv(volume):
            return ["-u", "--threads", self.jobs, *how, "--changed-before", age, ".", volume.place, *words]

        return self.of_tool(label, ["fd", "fdfind"], argv, aside=True)

    def tmpreaper(self, *words):
        def argv(volume):
            return ["--runtime=0", *words, volume.place]

        return self.of_tool("tmpreaper", ["tmpreaper"], argv, aside=True)

    def systemd(self, age):
        def argv(volume):
            rules = self.scratch / "tmpfiles.conf"
            rules.write_text(f"e {volume.place} - - - {age}\n")
            return ["--clean", rules]

        return self.of_tool("systemd-tmpfiles --clean", ["systemd-tmpfiles"], argv, aside=True)

    @staticmethod
    def python(zone):
        def argv(volume):
            return [sys.executable, CLEANER, zone, volume.place]

        return Command("Python, as CVAT does it, no lock", argv, aside=True)


def cases_of(sizes, commands):
    """The comparisons by name."""
    flat = functools.partial(Recipe, "flat")
    jobs = commands.jobs
    scan = Case(
        "Flat directory, nothing expired: scan",
        flat(sizes.scan, ("--expired", "0")),
        [
            commands.floor("flat"),
            commands.floor("flat", "--threads", "2"),
            commands.exports(1),
            commands.exports(2),
            commands.find("find -mtime +0", 0, "-type", "f"),
            commands.fd("fd --changed-before 1d", "1d", [], ["--type", "f"]),
            commands.tmpreaper("--mtime", "24h"),
            commands.systemd("m:1d"),
            commands.python("export"),
        ],
        removes=False,
        counted=2000,
    )
    few = Case(
        "The same with few entries",
        flat(FEW, ("--expired", "0")),
        [commands.floor("flat"), commands.exports(1), commands.exports(2)],
        removes=False,
        lean=True,
        rounds=MANY_ROUNDS,
    )
    sweep = Case(
        "Flat directory, half expired: sweep",
        flat(sizes.sweep, ("--expired", "50")),
        [
            commands.floor("flat", "--remove", "--guarded"),
            commands.floor("flat", "--remove", "--guarded", "--threads", "2"),
            commands.floor("flat", "--remove"),
            commands.exports(1),
            *([commands.exports(jobs)] if jobs > 1 else []),
            commands.find("find -mtime +0 -delete", 0, "-type", "f", "-delete"),
            commands.fd("fd --changed-before 1d -X rm", "1d", ["-X", "rm", "-f"], ["--type", "f"]),
            commands.tmpreaper("--mtime", "24h"),
            commands.systemd("m:1d"),
            commands.python("export"),
        ],
        removes=True,
        counted=2000,
    )
    trees = Case(
        "Trees of 100 files, half expired: judge and remove",
        Recipe("trees", sizes.trees, ("--expired", "50")),
        [
            commands.floor("trees", "--remove"),
            commands.floor("trees", "--remove", "--deep"),
            commands.floor("trees", "--remove", "--deep", "--threads", "2"),
            commands.trees(1, "ignore"),
            commands.trees(2, "ignore"),
            commands.trees(1, "skip"),
            commands.trees(2, "skip"),
            commands.find("find -mtime +13 -delete", 13, "-delete"),
            commands.tmpreaper("336h"),
            commands.systemd("amM:14d"),
            commands.python("tmp"),
        ],
        removes=True,
        counted=20,
        rounds=MANY_ROUNDS,
    )
    everything = Case(
        "Trees of 100 files, all expired: remove",
        Recipe("trees", sizes.trees, ("--expired", "100")),
        [
            commands.floor("trees", "--remove"),
            commands.floor("trees", "--remove", "--threads", "2"),
            commands.trees(jobs, "ignore"),
            commands.trees(jobs, "skip"),
            commands.of_tool("rmz, judging nothing", ["rmz"], lambda volume: [volume.place]),
            commands.of_tool("rm -rf, judging nothing", ["rm"], lambda volume: ["-rf", volume.place]),
        ],
        removes=True,
        counted=20,
    )
    instances = Case(
        "Instances, one in ten with an old cache: scan",
        Recipe("instances", sizes.instances),
        [
            commands.floor("instances"),
            commands.floor("instances", "--threads", "2"),
            # An instance has two places where an old cache can be, and `sweeper` looks at both.
            commands.floor("instances", "--both"),
            commands.floor("instances", "--both", "--threads", "2"),
            commands.sweeper("legacy --dry-run --jobs 2", "--dry-run", "--jobs", "2", command="legacy"),
            commands.sweeper(
                "legacy --older-than 3650d --jobs 2", "--older-than", "3650d", "--jobs", "2", command="legacy"
            ),
            commands.of_tool(
                "find -path '*/tmp/export_cache'",
                ["find"],
                lambda volume: [*(volume.data / kind for kind in ("projects", "tasks", "jobs")),
                                "-mindepth", "3", "-maxdepth", "3", "-path", "*/tmp/export_cache"],
                counted=True,
            ),
        ],
        removes=False,
        counted=2000,
    )
    # With this limit each file is looked at: none is so new that it decides for its tree.
    every_file = ("--deep", "--ttl", "1")
    usage = Case(
        "Trees of 100 files: what takes up space",
        Recipe("trees", sizes.trees, ("--expired", "50")),
        [
            commands.floor("trees", *every_file),
            commands.floor("trees", *every_file, "--threads", "2"),
            commands.sweeper("usage --jobs 1", "--jobs", "1", command="usage"),
            commands.sweeper("usage --jobs 2", "--jobs", "2", command="usage"),
            commands.of_tool("du -s", ["du"], lambda volume: ["-s", volume.data], counted=True),
            commands.of_tool("dua", ["dua"], lambda volume: ["aggregate", volume.data]),
            commands.of_tool("gdu", ["gdu"], lambda volume: ["-npc", volume.data]),
            commands.of_tool(
                "agedu -s", ["agedu"], lambda volume: ["-s", volume.data, "-f", commands.scratch / "agedu.dat"]
            ),
        ],
        removes=False,
        counted=20,
        rounds=MANY_ROUNDS,
    )
    return dict(
        scan=scan, few=few, sweep=sweep, trees=trees, everything=everything, instances=instances, usage=usage
    )


def cold_cases(sizes, commands):
    """What a pass costs when nothing of the volume is in memory, as at night."""
    exports = [commands.exports(1), commands.exports(2)]
    trees = [commands.trees(1, "skip"), commands.trees(2, "skip")]
    cases = []
    for title, recipe, sweepers, days, words in (
        ("Flat directory", Recipe("flat", sizes.cold), exports, 0, ("-type", "f")),
        ("Trees of 100 files", Recipe("trees", sizes.trees), trees, 13, ()),
    ):
        for work, expired, delete in (("nothing expired: scan", "0", ()), ("half expired: sweep", "50", ("-delete",))):
            old = commands.find("find -delete" if delete else "find", days, *words, *delete)
            recipe = dataclasses.replace(recipe, options=("--expired", expired))
            # A run warms the caches, so the volume is built again for every scan, too.
            cases.append(Case(f"{title}, {work}", recipe, [old, *sweepers], removes=True))
    return cases
