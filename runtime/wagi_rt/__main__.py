"""`python -m wagi_rt` is `wagi-rt`."""

from wagi_rt.cli import command

command()
