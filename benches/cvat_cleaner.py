#!/usr/bin/env python3
"""What CVAT's own cleaners do for each entry, in the same order, to be measured beside the sweeper.

    cvat_cleaner.py export DIR [--lock none|pottery] [--port PORT] [--limit N]
    cvat_cleaner.py tmp DIR

export: each file in DIR is locked first, with a lock object and a Redis client of its own. Then its name is read and
its time compared, and if it has expired it is removed. tmp: each entry of DIR is removed with all that is in it if
its own atime is old. `--lock none` leaves out the lock and nothing else. Prints how many were seen and removed, and
how many seconds that took, without the start of Python.
"""
import argparse
import contextlib
import os
import re
import shutil
import time

DAY = 86_400
EXPORT_TTL = DAY
TMP_RETENTION = 14 * DAY
LOCK_TTL = 30
LOCK_WAIT = 50
# The path at which CVAT sees its export cache. It is part of the names of the locks.
CVAT_EXPORTS = "/home/django/data/cache/export"

NAME = re.compile(r"(project|task|job)-(\d+)-(annotations|backup|dataset|events)-(.+)")


def parse(name):
    """Reads a name as loosely as CVAT does. Raises ValueError if it cannot."""
    stem, extension = os.path.splitext(name)
    if stem.startswith("events"):
        kind, identifier = stem.split("-", 1)
        return kind, identifier, extension.lstrip(".").lower()
    found = NAME.fullmatch(stem)
    if not found:
        raise ValueError(f"not an export: {name}")
    owner, identifier, kind, rest = found.groups()
    stamp = rest[len("instance") :]
    if kind != "backup":
        stamp, _format = stamp.split("-", 1)
    return owner, int(identifier), kind, float(stamp.split("-", 1)[0]), extension.lstrip(".").lower()


def no_lock(_name):
    return contextlib.nullcontext()


def pottery_lock(port):
    """A function that takes CVAT's lock of a file."""
    from pottery import Redlock
    from redis import Redis

    @contextlib.contextmanager
    def lock(name):
        # A new client for each lock: CVAT asks its queue library for a connection every time.
        client = Redis(host="127.0.0.1", port=port)
        held = Redlock(
            key=f"export_lock:{CVAT_EXPORTS}/{name}", masters={client}, auto_release_time=LOCK_TTL
        )
        if not held.acquire(blocking=True, timeout=LOCK_WAIT):
            raise TimeoutError(name)
        try:
            yield
        finally:
            held.release()

    return lock


def clean_exports(directory, lock, limit):
    seen = removed = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if limit and seen == limit:
                break
            seen += 1
            if not entry.is_file():
                continue
            with lock(entry.name):
                parse(entry.name)
                if time.time() <= os.stat(entry.path).st_mtime + EXPORT_TTL:
                    continue
                os.remove(entry.path)
                removed += 1
    return seen, removed


def clean_tmp(directory):
    seen = removed = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            seen += 1
            if entry.stat().st_atime + TMP_RETENTION >= time.time():
                continue
            shutil.rmtree(entry.path) if entry.is_dir() else os.remove(entry.path)
            removed += 1
    return seen, removed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zone", choices=["export", "tmp"])
    parser.add_argument("directory")
    parser.add_argument("--lock", choices=["none", "pottery"], default="none")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--limit", type=int, default=0, help="stop after this many files")
    options = parser.parse_args()
    lock = pottery_lock(options.port) if options.lock == "pottery" else no_lock
    start = time.monotonic()
    if options.zone == "export":
        seen, removed = clean_exports(options.directory, lock, options.limit)
    else:
        seen, removed = clean_tmp(options.directory)
    print(f"seen {seen}, removed {removed}, seconds {time.monotonic() - start:.3f}")


if __name__ == "__main__":
    main()
