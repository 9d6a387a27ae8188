"""``python -m wsnas`` is the ``wsnas`` command."""

from wsnas.cli import main

main(prog_name="wsnas")
