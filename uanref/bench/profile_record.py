"""A run of ``uanref bench --profile``, and its JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from uanref import backend, files
from uanref.bench import host, malloc, peers, profile, single, suite
from uanref.bench.limits import Limits
from uanref.bench.peers import Peer
from uanref.bench.profile import Profile
from uanref.bench.single import Operation, Pair

FORMAT = 1


@dataclass
class ProfileRecord:
    """One run, which grows while it goes on.

    Attributes:
        command: as it was given.
        repeats: of every row of the bench.
        machine: see :func:`uanref.bench.host.facts`.
        operation: what one operation costs here.
        pairs: what two threads get done, by size; empty where one core may be used.
        missing: why PyTorch is missing.
        limits: of the machine, by threads.
        profiles: of the cases.
    """

    command: str
    repeats: int
    machine: dict[str, Any]
    operation: Operation
    pairs: list[Pair]
    missing: list[str] = field(default_factory=list)
    limits: dict[int, Limits] = field(default_factory=dict)
    profiles: list[Profile] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` writes."""
        found = asdict(self) | {"limits": [asdict(one) for one in self.limits.values()]}
        return {"format": FORMAT, "kind": "profile", **found}


def read(path: str | os.PathLike[str]) -> ProfileRecord:
    """Read what ``--profile --json`` wrote.

    Raises:
        OSError: it is missing, no plain file, or not readable.
        ValueError: it holds something else.
    """
    with files.open_plain(path) as stream:
        content = stream.read()
    try:
        found = json.loads(content)
        if (found.pop("format"), found.pop("kind")) != (FORMAT, "profile"):
            raise ValueError
        found["operation"] = Operation(**found["operation"])
        found["pairs"] = [Pair(**one) for one in found["pairs"]]
        found["limits"] = {one["threads"]: Limits(**one) for one in found["limits"]}
        found["profiles"] = [profile.from_json(one) for one in found["profiles"]]
        return ProfileRecord(**found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{os.fspath(path)} is not what uanref bench --profile --json writes") from None


def begin(
    names: Sequence[str] | None, repeats: int, threads: int | None, command: str
) -> tuple[ProfileRecord, list[Peer]]:
    """Return a record without a case, and PyTorch if it is there; the allocator is fixed from here on.

    Raises:
        ValueError: an unknown case, or one that is a process.
    """
    wanted = profile.chosen(names)
    load = host.load()
    there, missing = peers.find()
    for peer in there:
        peer.start(max(suite.threads_of(case, threads) for case in wanted.values()))
    facts = host.facts(there, malloc.keep_warm()) | {"load": load}
    pairs = single.pairs() if backend.threads() > 1 else []
    return ProfileRecord(command, repeats, facts, single.operation(), pairs, missing), there


def run(
    names: Sequence[str] | None, there: Sequence[Peer], threads: int | None, record: ProfileRecord
) -> Iterator[str]:
    """Profile into ``record``, and yield the name of each case when it is done."""
    for one in profile.run(names, there, record.operation, record.repeats, threads, record.limits):
        record.profiles.append(one)
        yield one.case
