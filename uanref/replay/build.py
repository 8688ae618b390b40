"""The replay as one self-contained HTML page: it needs no network, and its content security policy allows none."""

from __future__ import annotations

import string
from collections.abc import Sequence
from html import escape
from importlib import resources

from uanref.replay.data import replay_data
from uanref.replay.jumps import jumps, key
from uanref.stepping.explorer import embedded
from uanref.stepping.policy import policy
from uanref.training.recording import Recording

STYLES = (("stepping", "base.css"), ("stepping", "mixture.css"), ("replay", "replay.css"))
SCRIPTS = (
    ("stepping", "primitives.js"),
    ("stepping", "derivation.js"),
    ("stepping", "dom.js"),
    ("stepping", "plot.js"),
    ("stepping", "channel.js"),
    ("replay", "times.js"),
    ("replay", "moment.js"),
    ("replay", "picture.js"),
    ("replay", "curves.js"),
    ("replay", "numbers.js"),
    ("replay", "jump.js"),
    ("replay", "replay.js"),
)

LARGEST = 1_000_000
"""Bytes that a page may have."""

OURS = 100_000
"""Bytes of them for the replay's own text, scripts and styles."""


def page(recordings: Sequence[Recording]) -> str:
    """Return the page of one or two recordings, side by side.

    Args:
        recordings: to be shown, from the left to the right.

    Raises:
        ValueError: no recordings, more than two, none with a norm layer, or more layers than a page holds.
    """
    if not 1 <= len(recordings) <= 2:
        raise ValueError(f"a replay shows one run or two side by side, got {len(recordings)}")
    if not any(one.layers for one in recordings):
        one = recordings[0]
        raise ValueError(f"the run {one.norm}:{one.seed} has no norm layer to watch: choose another with --runs")
    pages = jumps(recordings)
    carried = pages.packed()
    data = replay_data(recordings, LARGEST - len(carried) - OURS)
    for run, one in zip(data["runs"], recordings, strict=True):
        for layer, recorded in zip(run["layers"], one.layers, strict=True):
            place = key(recorded)
            layer["page"] = place if place in pages.pages else None
    styles = ["".join(f"\n{_text(*name)}" for name in STYLES)]
    scripts = ["\n" + _text(*name) for name in SCRIPTS]
    title = " | ".join(run["title"] for run in data["runs"])
    return string.Template(_text("replay", "replay.html")).substitute(
        policy=policy([*styles, *pages.styles], [*scripts, *pages.scripts]),
        title=escape(title),
        what=escape(_what(recordings)),
        styles="".join(f"<style>{text}</style>" for text in styles),
        data=embedded(data),
        pages=carried,
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
    )


def _what(recordings: Sequence[Recording]) -> str:
    told = [f"{one.model} on {one.dataset}, learning rate {one.lr:g}" for one in recordings]
    return " | ".join(dict.fromkeys(told))


def _text(room: str, name: str) -> str:
    return (resources.files(f"uanref.{room}") / "page" / name).read_text("utf-8")
