"""Which recordings of a run are shown."""

from __future__ import annotations

from collections.abc import Sequence

from uanref.training.recording import Recording

MOST = 2
"""How many runs stand side by side."""


def wanted_runs(text: str) -> tuple[tuple[str, int | None], ...]:
    """Return norms and seeds from a text such as ``"bn:0,uan:0"``; without a seed, None.

    Raises:
        ValueError: not of this form, or more than two.
    """
    found: list[tuple[str, int | None]] = []
    for entry in (part.strip() for part in text.split(",")):
        norm, colon, seed = entry.rpartition(":")
        seeded = bool(colon and norm) and seed.isascii() and seed.isdecimal() and len(seed) <= 20
        if not entry:
            raise ValueError(f"runs are written norm:seed with a comma between, such as bn:0,uan:0, got {text[:60]!r}")
        found.append((norm, int(seed)) if seeded else (entry, None))
    if len(found) > MOST:
        raise ValueError(f"at most {MOST} runs stand side by side, got {len(found)}: choose two")
    return tuple(found)


def choose(
    recordings: Sequence[Recording], wanted: Sequence[tuple[str, int | None]] | None = None
) -> tuple[Recording, ...]:
    """Return the recordings to show, one or two.

    Args:
        recordings: of a run, at least one.
        wanted: norms and seeds; None for the first seed of bn and of uan, or the first two runs where one is missing.

    Raises:
        ValueError: a run that there is not.
    """
    if wanted is None:
        usual = [next((each for each in recordings if each.norm == norm), None) for norm in ("bn", "uan")]
        both = tuple(each for each in usual if each is not None)
        return both if len(both) == MOST else tuple(recordings[:MOST])
    found = []
    for norm, seed in wanted:
        fitting = [each for each in recordings if each.norm == norm and seed in (None, each.seed)]
        if not fitting:
            name = norm if seed is None else f"{norm}:{seed}"
            there = ", ".join(f"{each.norm}:{each.seed}" for each in recordings[:20])
            more = "" if len(recordings) <= 20 else f" and {len(recordings) - 20} more"
            raise ValueError(f"there is no run {name[:60]!r}: there are {there}{more}")
        found.append(fitting[0])
    return tuple(found)
