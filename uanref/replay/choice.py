"""Which recordings of a run are shown."""

from __future__ import annotations

from collections.abc import Sequence

from uanref.experiments.recordings import Found

MOST = 2
"""How many runs stand side by side."""


def choose(found: Sequence[Found], wanted: str | None = None) -> tuple[Found, ...]:
    """Return the recordings to show, one or two.

    Args:
        found: of a run, at least one (:func:`uanref.experiments.recordings.find`).
        wanted: labels, or their beginnings, with a comma between, such as ``"bn:0,uan:0"`` or ``"uan"``; None for the
            first of bn and of uan, or the first two runs with a norm where one is missing.

    Raises:
        ValueError: a run that there is not, one named twice, or more than two.
    """
    if wanted is None:
        usual = [next((each for each in found if each.norm == norm), None) for norm in ("bn", "uan")]
        both = tuple(each for each in usual if each is not None)
        if len(both) == MOST:
            return both
        watched = [each for each in found if each.norm != "none"]  # a network without norms has nothing to watch
        return tuple((watched or found)[:MOST])
    parts = [part.strip() for part in wanted.split(",")]
    chosen = []
    while parts:
        # The path of a reader's own norm may hold commas.
        sizes = (size for size in range(1, len(parts) + 1) if _named(",".join(parts[:size]), found))
        size = next(sizes, 0)
        if not size:
            raise ValueError(f"there is no run {parts[0][:60]!r}: there are {_listed(found)}")
        chosen += _named(",".join(parts[:size]), found)[:1]
        del parts[:size]
    if len(set(chosen)) < len(chosen):
        twice = max(chosen, key=chosen.count).label
        raise ValueError(f"--runs names {twice} twice: name it once, or another run beside it, of {_listed(found)}")
    if len(chosen) > MOST:
        raise ValueError(f"at most {MOST} runs stand side by side, --runs names {len(chosen)}: choose two")
    return tuple(chosen)


def _named(name: str, found: Sequence[Found]) -> list[Found]:
    """Return the runs whose label is ``name``, or else those whose label goes on behind it."""
    exact = [each for each in found if each.label == name]
    return exact or [each for each in found if name and each.label.startswith(f"{name}:")]


def _listed(found: Sequence[Found]) -> str:
    there = ", ".join(each.label for each in found[:20])
    return there if len(found) <= 20 else f"{there} and {len(found) - 20} more"
