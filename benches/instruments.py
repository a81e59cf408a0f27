"""The instruments of benches/compare: one run and what it cost, file systems that are the same before every run,
system calls per entry, and the other programs that it starts."""
import dataclasses
import functools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

CORES = os.cpu_count() or 1
PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
# No setting of the caller reaches the programs that are measured.
ENVIRONMENT = {"PATH": PATH, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C"}


def say(text):
    """Prints progress to stderr: stdout is for the report."""
    print(text, file=sys.stderr, flush=True)


def tool(*names):
    """The first of these programs that is installed, or None."""
    return next(filter(None, (shutil.which(name, path=PATH) for name in names)), None)


def do(*argv, **more):
    """Runs a program that prepares something. It must succeed."""
    argv = [str(word) for word in argv]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, **more).stdout


# ---- one run ----


@dataclasses.dataclass
class Run:
    wall: float
    cpu: float
    peak_mib: float
    code: int
    output: str
    # Whether other processes kept the machine busy meanwhile, so that the wall time says little.
    disturbed: bool


def busy_seconds():
    """The time that all processors have worked since the machine started."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def run_once(argv, scratch, lean=False):
    """Runs a command and returns what it cost, as the kernel counts it.

    Peak memory needs a small launcher in between (GNU time): a process begins with the memory of its parent, which
    would be Python. `lean` leaves out the launcher and the peak, for runs so short that the launcher would count.
    """
    argv = [str(word) for word in argv]
    output, peak = scratch / "output", scratch / "peak"
    launcher = None if lean else tool("time")
    if launcher:
        argv = [launcher, "-q", "-f", "%M", "-o", str(peak), *argv]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    busy = busy_seconds()
    start = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, ENVIRONMENT, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    cpu = usage.ru_utime + usage.ru_stime
    others = busy_seconds() - busy - cpu
    return Run(
        wall=wall,
        cpu=cpu,
        peak_mib=int(peak.read_text().split()[-1]) / 1024 if launcher else float("nan"),
        code=os.waitstatus_to_exitcode(status),
        output=output.read_text(errors="replace"),
        # The clock of /proc/stat ticks in hundredths of a second.
        disturbed=others > 0.25 * CORES * wall + 0.02 * CORES,
    )


def counted_by_perf(argv, scratch):
    counts = scratch / "perf"
    do("perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", counts, *argv, stderr=subprocess.DEVNULL)
    lines = [line.split(",") for line in counts.read_text().splitlines() if "sys_enter" in line]
    return int(lines[0][0])


def counted_by_strace(argv, scratch):
    counts = scratch / "strace"
    do("strace", "-f", "-c", "-o", counts, *argv, stderr=subprocess.DEVNULL)
    total = [line.split() for line in counts.read_text().splitlines() if line.endswith(" total")]
    # % time, seconds, usecs/call, calls, [errors], total
    return int(total[0][3]) if total else 0


@functools.cache
def counter(scratch):
    """A function that counts system calls, if there is one here: with perf, or else with strace, under which each call
    takes many times as long, so that what depends on the clock differs."""
    if tool("perf"):
        try:
            if counted_by_perf(["true"], scratch) > 0:
                return counted_by_perf
        except (subprocess.CalledProcessError, OSError, ValueError, IndexError):
            pass
    return counted_by_strace if tool("strace") else None


def system_calls(argv, scratch):
    """The number of system calls of a command and all its threads."""
    return counter(scratch)(argv, scratch)


# ---- volumes ----


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A volume that the program `volume` can build."""

    kind: str
    count: int
    options: tuple = ()

    def of(self, count):
        return dataclasses.replace(self, count=count)

    def place(self, data):
        """The directory of it that is swept."""
        return data / {"flat": "cache/export", "instances": "."}.get(self.kind, "tmp")

    def arguments(self):
        if self.kind == "one-tree":
            return ["--files", self.count, *self.options]
        return [self.count, *self.options]


class Built:
    """A volume on a file system."""

    def __init__(self, recipe, data, said):
        made, self.expired = (int(word.split()[1]) for word in said.split(", "))
        self.recipe, self.data, self.place = recipe, data, recipe.place(data)
        self.units = 1 if recipe.kind == "one-tree" else recipe.count
        # What a cost per entry is divided by.
        self.entries = recipe.count if recipe.kind in ("flat", "instances") else made


class Builder:
    def __init__(self, program):
        self.program = program

    def build(self, recipe, data):
        # A data root is recognized by its directories.
        (data / "cache/export").mkdir(parents=True, exist_ok=True)
        (data / "tmp").mkdir(exist_ok=True)
        return Built(recipe, data, do(self.program, recipe.kind, recipe.place(data), *recipe.arguments()))


class Tmpfs:
    name = "tmpfs"

    def __init__(self, scratch, builder):
        self.data, self.builder = scratch / "data", builder

    def make(self, recipe):
        self.close()
        return self.builder.build(recipe, self.data)

    def close(self):
        if self.data.exists():
            do("rm", "-rf", self.data)


class Ext4:
    """An ext4 in memory, copied from the same image before every run.

    On ext4 a directory gets slower when it is filled and emptied again and again, and a shared disk is noisy. A copy
    starts from the same bytes each time.
    """

    name = "ext4"

    def __init__(self, scratch, builder):
        self.scratch, self.builder = scratch, builder
        self.mount, self.copy, self.golden = scratch / "ext4", scratch / "copy.img", scratch / "golden.img"
        self.mount.mkdir(exist_ok=True)
        self.recipe = self.built = None

    @staticmethod
    def why_not():
        """Why it cannot be used here, or None."""
        if os.geteuid() != 0:
            return "mounting needs root"
        if not Path("/dev/loop-control").exists():
            return "there are no loop devices"
        missing = [name for name in ("mkfs.ext4", "mount", "umount") if not tool(name)]
        return f"{missing[0]} is not installed" if missing else None

    def make(self, recipe):
        self.unmount()
        if recipe != self.recipe:
            self.build_golden(recipe)
        do("cp", "--sparse=always", self.golden, self.copy)
        # This fills the caches, and must not change the access times that are judged. Only the mount is changed
        # afterwards (`bind`): a remount of the file system itself would empty the kernel's cache of names.
        self.mount_image(self.copy, "noinit_itable,noatime")
        do("find", self.mount, "-newermt", "2100-01-01")
        do("mount", "-o", "remount,bind,relatime", self.mount)
        return self.built

    def build_golden(self, recipe):
        # The image is sparse, so its size costs nothing.
        inodes = recipe.count * self.inodes_per_unit(recipe)
        self.golden.unlink(missing_ok=True)
        with open(self.golden, "wb") as image:
            image.truncate((1 << 30) + inodes * 5 * 1024)
        do("mkfs.ext4", "-q", "-F", "-N", inodes + 10_000, self.golden)
        self.mount_image(self.golden, "noinit_itable")
        self.built = self.builder.build(recipe, self.mount / "data")
        self.recipe = recipe
        self.unmount()

    def mount_image(self, image, options):
        do("mount", "-o", f"loop,{options}", image, self.mount)

    @staticmethod
    def inodes_per_unit(recipe):
        if recipe.kind != "trees":
            return 2 if recipe.kind == "flat" else 8
        options = dict(zip(recipe.options[::2], recipe.options[1::2]))
        return int(options.get("--files", 100)) + int(options.get("--dirs", 4)) + 1

    def unmount(self):
        for attempt in range(20):
            if not os.path.ismount(self.mount):
                break
            # A process that has just ended may still use it.
            last = ["-l"] if attempt == 19 else []
            umount = subprocess.run(["umount", *last, str(self.mount)], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
            if umount.returncode:
                time.sleep(0.2)
        self.copy.unlink(missing_ok=True)

    def close(self):
        self.unmount()
        self.golden.unlink(missing_ok=True)
        self.recipe = None


class Slow:
    """A volume on a FUSE file system on which every call takes some time, as on a network file system."""

    def __init__(self, scratch, builder, microseconds):
        self.name = f"FUSE, {microseconds} us a call"
        self.back, self.mount, self.builder = scratch / "back", scratch / "slow", builder
        self.mount.mkdir(exist_ok=True)
        self.program, self.microseconds, self.server = scratch / "slow_fs", microseconds, None
        if not self.program.exists():
            flags = do("pkg-config", "--cflags", "--libs", "fuse3").split()
            do("cc", "-O2", "-o", self.program, Path(__file__).with_name("slow_fs.c"), *flags)

    @staticmethod
    def why_not():
        """Why it cannot be used here, or None."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse cannot be used"
        missing = [name for name in ("cc", "pkg-config", "fusermount3") if not tool(name)]
        if missing:
            return f"{missing[0]} is not installed"
        found = subprocess.run(["pkg-config", "fuse3"], env=ENVIRONMENT).returncode == 0
        return None if found else "the headers of fuse3 are not installed"

    def make(self, recipe):
        self.close()
        built = self.builder.build(recipe, self.back / "data")
        settings = {"SLOW_FS_ROOT": str(self.back), "SLOW_FS_MICROSECONDS": str(self.microseconds)}
        self.server = subprocess.Popen(
            [self.program, self.mount, "-f"], env=ENVIRONMENT | settings, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            if os.path.ismount(self.mount):
                break
            time.sleep(0.02)
        # With libfuse before 3.17 the kernel looks up new names one at a time, which no network file system does.
        # Known names are looked up in parallel, each by a call of its own.
        do("find", self.mount, "-newermt", "2100-01-01")
        built.data = self.mount / "data"
        built.place = recipe.place(built.data)
        return built

    def close(self):
        if self.server:
            do("fusermount3", "-u", self.mount)
            self.server.wait()
            self.server = None
        if self.back.exists():
            do("rm", "-rf", self.back)


# ---- others ----


class Redis:
    """A server on a free port of the loopback interface."""

    def __init__(self, scratch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        argv = ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        argv += ["--port", str(self.port), "--dir", str(scratch)]
        self.server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        self.close()
        raise RuntimeError("redis-server does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.server.terminate()
        self.server.wait()


def python_with_pottery(target):
    """A Python with the exporter's lock: that of the tests, or one that is made here."""
    for name in ("tests-python", "bench-python"):
        python = target / name / "bin/python"
        found = python.exists() and not subprocess.run(
            [python, "-c", "import pottery, redis"], stderr=subprocess.DEVNULL
        ).returncode
        if found:
            return python
    say("installing pottery in target/bench-python")
    try:
        do(sys.executable, "-m", "venv", "--clear", target / "bench-python")
        do(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pottery==3.0.1", "redis")
        return python
    except subprocess.CalledProcessError:
        return None


def end_on_signals():
    """SIGTERM ends the script as Ctrl-C does: after everything is cleaned up."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def spread(values, digits=2):
    """Median and range as text."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
