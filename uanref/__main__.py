"""``python -m uanref`` is the command ``uanref``."""

from uanref.cli import main

main()
