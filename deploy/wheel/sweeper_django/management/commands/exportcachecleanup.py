"""CVAT's command of that name, run by sweeper: `manage.py exportcachecleanup` takes all of its options.

It must not read an argument itself, but for `--settings` and `--pythonpath`, which Django has used up.
"""

import argparse
import os
import subprocess

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sweeper_django import BINARY, become, explain

NAME = "exportcachecleanup"

#: Django's own options, which it reads before it looks for a command.
DJANGO = ("--settings", "--pythonpath")


class Verbatim(argparse.ArgumentParser):
    """Reads nothing: what `call_command` is given is handed on."""

    def parse_args(self, args=None, namespace=None):
        return argparse.Namespace(args=[str(arg) for arg in args or []])


class Command(BaseCommand):
    help = "Removes the export caches that CVAT before 2.26 kept for each project, task and job."
    requires_system_checks = []

    def run_from_argv(self, argv):
        point_to_data_root()
        become(NAME, without_djangos(argv[2:]))

    def print_help(self, prog_name, subcommand):
        become(NAME, ["--help"])

    def create_parser(self, prog_name, subcommand, **kwargs):
        return Verbatim(prog=f"{prog_name} {subcommand}", add_help=False)

    def execute(self, *args, **options):
        """For `call_command`, in a process that goes on: a code other than 0 is an error."""
        for option in ("stdout", "stderr"):
            if options.get(option) is not None:
                raise CommandError(f"{NAME} prints to the {option} of the process, so {option}=... is not supported")
        point_to_data_root()
        try:
            done = subprocess.run([NAME, *args], executable=BINARY)
        except OSError as error:
            raise CommandError(f"{NAME}: {explain(error)}") from None
        if done.returncode:
            raise CommandError(f"{NAME} ended with code {done.returncode}", returncode=done.returncode)


def without_djangos(args):
    """The arguments without those of Django."""
    rest, skip = [], False
    for at, arg in enumerate(args):
        if skip:
            skip = False
        elif arg == "--":
            return rest + args[at:]
        elif arg in DJANGO:
            skip = True
        elif not arg.startswith(tuple(f"{option}=" for option in DJANGO)):
            rest.append(arg)
    return rest


def point_to_data_root():
    """Says where CVAT has its data, by the variable that CVAT says it with. Settings of the sweeper win over it."""
    root = getattr(settings, "DATA_ROOT", None)
    if root and "CVAT_BASE_DIR" not in os.environ:
        base, name = os.path.split(os.path.abspath(root))
        if name == "data":
            os.environ["CVAT_BASE_DIR"] = base
