"""An exception as one sentence, or as the end of one: on one line, without the decoration that Python adds to some."""

from __future__ import annotations


def message(error: BaseException, longest: int | None = None) -> str:
    """Return an error's message on one line, its class where it has none; of at most ``longest`` characters."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() would put quotes around it
    return " ".join(str(text).split())[:longest] or type(error).__name__


def reason(error: BaseException, longest: int | None = None) -> str:
    """Return why something failed: the system's words without number and file name, else :func:`message`."""
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())[:longest]
    return message(error, longest)


def named(error: BaseException, longest: int | None = None) -> str:
    """Return an error's class and, where it has one, its :func:`message`: ``"ValueError: no number"``."""
    kind, text = type(error).__name__, message(error, longest)
    return kind if text == kind and not str(error).strip() else f"{kind}: {text}"
