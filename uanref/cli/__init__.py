"""The command ``uanref``: options in, tables out. The work is done in ``uanref.experiments``.

Exit codes: 0 done; 1 work that failed: a check, training that diverged, results that could not be written; 2 bad
input or a missing piece; 130 Ctrl-C; 143 SIGTERM, which ends a command as Ctrl-C does; 141 the reader of the output
went away (``uanref ... | head``). Bad input gets one sentence on standard error; with
``UANREF_DEBUG=1`` the traceback comes instead.

Modules that take long to import are imported inside the commands that need them.
"""

# Each of them adds its command to the app; in this order they are listed.
from uanref.cli import compare, experiment, report, replay, train, evaluate, check, bench, info  # isort: skip
from uanref.cli import step, explore, vectors, docs  # isort: skip
from uanref.cli.app import app
from uanref.cli.entry import main

__all__ = [
    "app",
    "bench",
    "check",
    "compare",
    "docs",
    "evaluate",
    "experiment",
    "explore",
    "info",
    "main",
    "replay",
    "report",
    "step",
    "train",
    "vectors",
]
