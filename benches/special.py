"""What benches/compare measures in ways of its own: under Redis, on nothing, idle, and by the number of workers."""
import json
import statistics

import instruments as kit
from cases import CLEANER, FEW_ROUNDS, ROUNDS, Case
from cold import ColdExt4
from instruments import Recipe, Redis, run_once, say, spread, system_calls, tool
from measuring import calls_per_entry, measure


def under_redis(target, sizes, commands, builder, scratch, expired):
    """Microseconds per file under the exporter's Redis lock: runs of the sweeper, and one of CVAT's cleaner."""
    python = kit.python_with_pottery(target)
    if not tool("redis-server") or python is None:
        return None, "redis-server is not installed" if not tool("redis-server") else "pottery cannot be installed"
    stage = kit.Tmpfs(scratch, builder)
    with Redis(scratch) as redis:
        ours = []
        for _ in range(ROUNDS):
            volume = stage.make(Recipe("flat", sizes.locked, ("--expired", expired)))
            words = ["--zones", "export", "--redis", f"redis://127.0.0.1:{redis.port}"]
            words += ["--cvat-data", "/home/django/data"]
            run = run_once(commands.sweeper("", *words).argv(volume), scratch)
            if run.code or json.loads(run.output)["totals"]["removed"] != volume.expired:
                raise RuntimeError(f"the sweeper under Redis: {run.output[-2000:]}")
            ours.append(run.wall * 1e6 / sizes.locked)
        say(f"  CVAT's cleaner with pottery, {sizes.cleaner} files")
        volume = stage.make(Recipe("flat", sizes.cleaner, ("--expired", expired)))
        run = run_once([python, CLEANER, "export", volume.place, "--lock", "pottery", "--port", redis.port], scratch)
        if run.code:
            raise RuntimeError(f"CVAT's cleaner: {run.output[-2000:]}")
    stage.close()
    # Its own count of the seconds, which is in its favor: it leaves out the start of Python and of pottery.
    return (ours, float(run.output.split()[-1]) * 1e6 / sizes.cleaner), None


def calls_for_targets(commands, builder, scratch):
    """System calls for a file that is kept and for one that is removed."""
    sides = []
    for expired in ("0", "100"):
        recipe = Recipe("flat", 40_000, ("--expired", expired))
        case = Case("", recipe, [commands.exports(1)], removes=True, counted=40_000)
        sides.append(calls_per_entry(case, builder, scratch)["sweeper --jobs 1"])
    return sides


def empty_volume(commands, builder, scratch):
    """Milliseconds of processor time and system calls of a pass over an empty volume."""
    stage = kit.Tmpfs(scratch, builder)
    volume = stage.make(Recipe("flat", 0))
    argv = commands.sweeper("").argv(volume)
    cpu = statistics.median(run_once(argv, scratch, lean=True).cpu for _ in range(20)) * 1000
    # Workers that wait for each other make a number of calls that varies.
    calls = statistics.median(system_calls(argv, scratch) for _ in range(5)) if kit.counter(scratch) else None
    stage.close()
    return cpu, calls


def idle_workers(commands, builder, scratch):
    """Seconds of processor time of 32 workers in six seconds, in which the rate leaves them nearly nothing to do."""
    stage, seconds = kit.Tmpfs(scratch, builder), []
    words = ["--max-rate", "10/s", "--deadline", "6s"]
    for _ in range(FEW_ROUNDS):
        volume = stage.make(Recipe("flat", 1000, ("--expired", "100")))
        run = run_once(commands.exports(32, *words).argv(volume), scratch, lean=True)
        report = json.loads(run.output)
        if report["stopped"] != "deadline" or not 30 <= report["totals"]["removed"] <= 70:
            raise RuntimeError(f"ten files per second for six seconds: {run.output[-2000:]}")
        seconds.append(run.cpu)
    stage.close()
    return seconds


def kinds_of_work(sizes, commands, builder, scratch):
    """How many cores are kept busy by one large directory, one large tree and many small trees."""
    n = sizes.kinds
    kinds = [
        ("one directory, half expired", Recipe("flat", n)),
        ("one tree", Recipe("one-tree", n, ("--dirs", str(n // 100)))),
        ("many trees of one file, half expired", Recipe("trees", n // 2, ("--files", "1", "--dirs", "1"))),
    ]
    lines = [
        f"\n### Kinds of work (tmpfs, {n} files, {FEW_ROUNDS} rounds)\n",
        "| Work | --jobs | wall s | CPU s | cores kept busy | wall to --jobs 1 |",
        "|---|---|---|---|---|---|",
    ]
    stage = kit.Tmpfs(scratch, builder)
    for name, recipe in kinds:
        jobs = list(dict.fromkeys([1, 2, commands.jobs]))
        sweepers = [commands.sweeper(f"--jobs {number}", "--jobs", number) for number in jobs]
        measured = measure(Case(name, recipe, sweepers, removes=True, rounds=FEW_ROUNDS), stage, scratch, {})
        for number, command in zip(jobs, sweepers):
            runs = measured.runs[command.label]
            wall, cpu = (statistics.median(getattr(run, what) for run in runs) for what in ("wall", "cpu"))
            busy = statistics.median(run.cpu / run.wall for run in runs)
            ratio = spread(measured.ratios(command.label, measured.base))
            lines.append(f"| {name} | {number} | {wall:.3f} | {cpu:.3f} | {busy:.2f} | {ratio} |")
    stage.close()
    return "\n".join(lines)


def workers_for_waiting(sizes, commands, builder, scratch):
    """When more workers than cores help: with cold caches, and on file systems of growing latency."""
    jobs = (1, 2, 8, 32)
    lines = [
        f"\n### More workers than cores ({FEW_ROUNDS} rounds)\n",
        "| Where | Work | " + " | ".join(f"--jobs {number}" for number in jobs) + " |",
        "|---|---|" + "---|" * len(jobs),
    ]
    stages = []
    if kit.Ext4.why_not() is None:
        stages.append((ColdExt4(scratch, builder), sizes.scan // 10, sizes.sweep // 5))
    if kit.Slow.why_not() is None:
        few = sizes.kinds // 50
        stages += [(kit.Slow(scratch, builder, latency), few, few) for latency in (0, 30, 100, 300, 1000)]
    sweepers = [commands.exports(number) for number in jobs]
    for stage, scan, sweep in stages:
        try:
            for work, recipe in (
                ("scan, nothing expired", Recipe("flat", scan, ("--expired", "0"))),
                ("sweep, half expired", Recipe("flat", sweep)),
            ):
                # One run warms the caches, so the volume is built again for every scan, too.
                case = Case(f"{stage.name}: {work}", recipe, sweepers, removes=True, rounds=FEW_ROUNDS)
                measured = measure(case, stage, scratch, {})
                ratios = [spread(measured.ratios(command.label, measured.base)) for command in sweepers]
                lines.append(f"| {stage.name} | {work} | " + " | ".join(ratios) + " |")
        finally:
            stage.close()
    return "\n".join(lines)
