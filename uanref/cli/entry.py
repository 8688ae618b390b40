"""The entry point: arguments in, an exit code out, every failure in one sentence."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence

import typer

from uanref import startup
from uanref.cli import completion, output
from uanref.cli.app import app
from uanref.cli.output import Failed
from uanref.own_errors import OwnCodeFailed
from uanref.reasons import message, reason
from uanref.startup import CODES, WORDS

# Newer versions of Typer carry their own copy of Click: this is the base of usage errors in all of them.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program's name; ``sys.argv[1:]`` if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks "±" shows "?" instead of failing
            stream.reconfigure(errors="replace")
    came: list[signal.Signals] = []
    try:
        with startup.raising(came):
            code, message = _outcome(arguments)
    except KeyboardInterrupt:  # while an outcome was put into words
        code, message = CODES[signal.SIGINT], WORDS[signal.SIGINT]
    if code == 1 and came:  # compiled code, Matplotlib's say, made an error of its own of the signal
        code, message = CODES[signal.SIGINT], f"{WORDS[signal.SIGINT]}; {message}"
    if code == CODES[signal.SIGINT] and signal.SIGTERM in came:
        code, message = CODES[signal.SIGTERM], message.replace(WORDS[signal.SIGINT], WORDS[signal.SIGTERM], 1)
    if message := message.strip():
        typer.echo(message if "\n" in message else f"uanref: {message}", err=True)
    if came:
        startup.leave(code)
    return code


def _outcome(arguments: list[str]) -> tuple[int, str]:
    """Run the command and return its exit code, with the sentence that goes with it unless it is 0."""
    if os.environ.get("UANREF_DEBUG", "") not in ("", "0"):
        return _run(arguments)
    try:
        return _run(arguments)
    except SystemExit as end:
        if not end.code:  # so Typer ends after shell completion
            return 0, ""
        return 141, ""  # so Rich and Click, with the code that here means a failed check, on a broken pipe alone
    except (KeyboardInterrupt, typer.Abort):
        return 130, WORDS[signal.SIGINT]
    except _UsageError as error:
        return 2, error.format_message()  # type: ignore[attr-defined]
    except ArithmeticError as error:
        from uanref.training.trainer import NonFiniteError

        return 1 if isinstance(error, NonFiniteError) else 2, _sentence(error)
    except OwnCodeFailed as error:
        return 1, _sentence(error)
    except MemoryError as error:
        return 2, f"not enough memory ({_sentence(error)}): use a smaller model, batch or data set"
    except (ValueError, TypeError, OSError, KeyError, RuntimeError) as error:
        return 2, _sentence(error)
    except Exception as error:
        if not type(error).__module__.startswith("cupy"):
            raise
        return 2, f"CuPy failed ({_sentence(error)[:300]}): uanref info says what is missing"


def _run(arguments: list[str]) -> tuple[int, str]:
    output.arguments[:] = arguments
    if arguments[:1] in (["--show-completion"], ["--install-completion"]):
        completion.require_shell()
    try:
        result = app(arguments, prog_name="uanref", standalone_mode=False)
    except Failed as failed:
        message, code = failed.args
        return code, message
    if result == 130:  # what newer versions of Typer make of Ctrl-C
        return 130, WORDS[signal.SIGINT]
    return (result if isinstance(result, int) else 0), ""


def _sentence(error: BaseException) -> str:
    """Return an error's message on one line, without the decoration that Python adds to some."""
    if isinstance(error, OSError) and error.strerror:
        return reason(error) if error.filename is None else f"{error.filename}: {reason(error)}"
    return message(error)
