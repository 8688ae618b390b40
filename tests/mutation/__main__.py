"""``python -m mutation``: run the gate and print what survived; ``--write`` puts the table into docs/mutation.md."""

from __future__ import annotations

import argparse
import sys
import time

from mutation import gate, page


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("--only", default="", help="functions whose file and name contain this")
    parser.add_argument("--every", type=int, default=1, help="examine each N-th slip alone")
    parser.add_argument("--processes", type=int, default=gate.usable_cores())
    parser.add_argument("--write", action="store_true", help="write the table into docs/mutation.md")
    parser.add_argument("--all", action="store_true", help="print what became of every slip")
    options = parser.parse_args()
    if options.write and (options.only or options.every != 1):
        parser.error("--write needs a whole run")

    start = time.perf_counter()
    verdict = gate.run(options.only, options.processes, options.every)
    if options.all:
        for outcome in verdict.outcomes:
            print(f"{outcome.status:8} {outcome.operator:9} {outcome.id}   [{outcome.by}]")
    print(page.table(verdict))
    print(f"{verdict}\n{time.perf_counter() - start:.0f} s with {options.processes} processes")
    if options.write:
        page.write(verdict)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
