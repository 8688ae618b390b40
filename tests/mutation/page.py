"""The tables of ``docs/mutation.md``: of backward passes, of the versions, of all passes in float32, of the kernels."""

from __future__ import annotations

from pathlib import Path

from mutation.gate import Outcome, Verdict

PAGE = Path(__file__).parents[2] / "docs" / "mutation.md"
BACKWARD, KERNELS = "<!-- table: python -m mutation --write -->", "<!-- table: python -m mutation --cuda --write -->"
SINGLE = "<!-- table: python -m mutation --write, float32 -->"
VERSIONS = "<!-- table: python -m mutation --write, versions -->"
END = "<!-- end of the table -->"


def table(verdict: Verdict) -> str:
    """Return the outcome per file, in Markdown."""
    lines = [
        "| file | functions | slips | killed | of them raised | equivalent | survivors |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    files = sorted({outcome.target.file for outcome in verdict.outcomes})
    rows = [(f"`{file}`", [o for o in verdict.outcomes if o.target.file == file]) for file in files]
    for name, outcomes in [*rows, ("all", verdict.outcomes)]:
        lines.append(f"| {name} | {' | '.join(str(n) for n in _counts(outcomes, verdict))} |")
    return "\n".join(lines)


def _counts(outcomes: list[Outcome], verdict: Verdict) -> tuple[int, ...]:
    survived = [outcome for outcome in outcomes if outcome.status == "survived"]
    listed = sum(outcome.id in verdict.equivalent for outcome in survived)
    return (
        len({outcome.target for outcome in outcomes}),
        len(outcomes),
        len(outcomes) - len(survived),
        sum(outcome.status in ("raised", "hung") for outcome in outcomes),
        listed,
        len(survived) - listed,
    )


def write(verdict: Verdict, begin: str = BACKWARD) -> None:
    """Put the table between the mark ``begin`` and the end of that table."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE} has no place for the table: {begin} ... {END}")
    PAGE.write_text(f"{before}{begin}\n{table(verdict)}\n{END}{after}", encoding="utf-8")


def files(begin: str = BACKWARD) -> set[str]:
    """Return the files that a table of the page lists."""
    rows = PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(END)[0].splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}
