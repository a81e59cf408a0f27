"""`python -m sweeper_django` is `sweeper`, where the directory of console scripts is not in PATH."""

from sweeper_django import main

main()
