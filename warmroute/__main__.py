"""`python -m warmroute`."""

from warmroute.cli import app

app(prog_name="warmroute")
