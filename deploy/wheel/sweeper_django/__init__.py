"""The static binary of sweeper, its console script, and a Django app with the command exportcachecleanup."""

import errno
import os
import sys

#: The binary, which pip installs beside this file.
BINARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "sweeper")


def become(name, args):
    """Replaces this process by the binary, called by `name`, with `args` as they are.

    The binary gets the signals, the terminal and the exit code of this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(BINARY, [name, *args])
    except OSError as error:
        sys.exit(f"{name}: {explain(error)}")


def explain(error):
    """Why the binary does not start, and what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{BINARY} cannot be executed: unpacked by hand it needs `chmod +x`, and its file system must not be mounted with noexec"
    if error.errno == errno.ENOENT:
        return f"{BINARY} is missing: install the wheel with pip"
    if error.errno == errno.ENOEXEC:
        return f"{BINARY} is for another kind of processor: install the wheel for this one"
    return f"{BINARY} does not start: {error.strerror}"


def main():
    """The console script."""
    become("sweeper", sys.argv[1:])
