"""What ``uanref bench --profile`` prints: why a case is as fast as it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref.bench.profile import Profile, Site
from uanref.bench.profile_record import ProfileRecord
from uanref.bench.report import limits_sentence, number, percent
from uanref.bench.single import Operation, Pair

FIRST = ("case", "ratio", "goal", "one\nthread", "gain\nhere", "gain\nthere", "floor /\nPyTorch", "reason")
SHARES = ("case", "ours\nms", "Python", "products", "exp", "other", "calls", "floor\nms", "PyTorch\nms")
SITES = ("case", "where", "call", "n", "share", "rate", "limit")
PAIRS = ("numbers", "one thread: µs", "two threads: times as much")
SLOWER = 0.9
UNITS = {"product": "GFLOP/s", "exp": "Gexp/s", "other": "GB/s"}

REASONS = {
    "met": "the goal is met",
    "lock": "with one thread the goal is met: a second one brings PyTorch more, which waits for no interpreter lock",
    "memory": "moving x, y, dy and dx once through memory takes longer than the goal allows",
    "floor": "our operations would take longer than the goal allows, did each run at the limit of this machine",
    "interpreter": "without Python between the operations, and without starting them, the goal would be met",
    "operations": "none of these: single operations run below the limits, as the table of calls shows",
}
"""What the last column says, by the first that holds."""


def reason(one: Profile) -> str:
    """Return the first of :data:`REASONS` that holds, or nothing without a goal or PyTorch."""
    if one.goal is None or one.ratio is None or one.ratio_one is None or not one.peer_ms:
        return "-"
    allowed = one.goal * one.peer_ms
    if one.ratio <= one.goal:
        return "met"
    if one.ratio_one <= one.goal:
        return "lock"
    if one.floor_ms > allowed:
        return "memory" if one.memory_ms > one.work_ms else "floor"
    return "interpreter" if one.numpy_ms - one.starts_ms <= allowed else "operations"


def report(record: ProfileRecord) -> Group:
    """Lay a record out for a terminal of 80 columns."""
    parts: list[Table | Text] = []
    if record.profiles:
        parts = [_table("beside PyTorch", FIRST, [row(one) for one in record.profiles]), Text()]
        parts += [_table("one thread: where the time goes", SHARES, [shares(one) for one in record.profiles]), Text()]
        lines = [(one.case if i == 0 else "", *site(one, each)) for one in record.profiles for i, each in top(one)]
        parts += [_table("the calls that take longest", SITES, lines), Text()]
    if record.pairs:
        parts += [_table("multiply, by two threads of Python", PAIRS, [pair(one) for one in record.pairs]), Text()]
    used = dict.fromkeys(reason(one) for one in record.profiles)
    words = [f"{name}: {meaning}." for name, meaning in REASONS.items() if name in used]
    words += [limits_sentence(one) for one in record.limits.values()] + [operation_sentence(record.operation)]
    words += list(filter(None, [record.machine.get("blas_advice"), doubt(record.profiles)]))
    return Group(*parts, *(Text(one) for one in (*words, *record.missing)))


def top(one: Profile, most: int = 5) -> list[tuple[int, Site]]:
    """Return the calls that took longest, numbered."""
    return list(enumerate(one.sites[:most]))


def row(one: Profile) -> tuple[str, ...]:
    """Return a case beside PyTorch."""
    floor = one.floor_ms / one.peer_ms if one.peer_ms else None
    numbers = (one.ratio, one.goal, one.ratio_one, one.gain, one.peer_gain, floor)
    texts = ["-" if each is None else f"{each:.2f}" for each in numbers]
    texts[0] += "!" if one.noisy else ""
    return (one.case, *texts, reason(one))


def shares(one: Profile) -> tuple[str, ...]:
    """Return where the time of a case goes."""
    total = max(one.total_ms, one.numpy_ms)
    parts = (one.python_ms, one.products_ms, one.exp_ms, one.numpy_ms - one.products_ms - one.exp_ms)
    times = [number(one.floor_ms), number(one.peer_ms)]
    return (one.case, number(one.total_ms), *(percent(part / total) for part in parts), str(one.calls), *times)


def site(one: Profile, each: Site) -> tuple[str, ...]:
    """Return calls of one place."""
    share = percent(each.ms / max(one.total_ms, one.numpy_ms))
    rate = f"{number(each.rate)} {UNITS[each.kind]}" if each.rate else "-"
    return each.site, each.name, str(each.count), share, rate, number(each.limit) if each.rate else "-"


def pair(one: Pair) -> tuple[str, ...]:
    """Return what two threads get done."""
    return f"{one.size:,}", f"{one.us:.2f}", f"{one.gain:.2f}"


def operation_sentence(one: Operation) -> str:
    """Say what an operation costs."""
    return f"An operation takes {one.start:.2f} us to start, and passes {one.cache:.0f} GB/s within the cache."


def doubt(profiles: Sequence[Profile]) -> str:
    """Say that PyTorch was slower with several threads than with one, if it was: its threads wait for a busy core."""
    slower = [one.case for one in profiles if one.peer_gain is not None and one.peer_gain < SLOWER]
    if not slower:
        return ""
    return (
        f"PyTorch was slower with several threads than with one in {len(slower)} of {len(profiles)} rows "
        f"({', '.join(slower)}): other processes had the cores, so there ratios with several threads say little."
    )


def _table(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in heads:
        words = heading in ("case", "where", "call", "reason")
        made.add_column(heading, justify="left" if words else "right", no_wrap=True, overflow="fold")
    for line in lines:
        made.add_row(*(Text(cell) for cell in line))
    return made
