"""``python -m mutation``: run the gate and print what survived; ``--write`` puts the table into docs/mutation.md.

``--cuda``: the gate of the kernels, a sample of the slips.
"""

from __future__ import annotations

import argparse
import sys
import time

from mutation import cuda_gate, gate, page
from mutation.gate import Outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("--cuda", action="store_true", help="the slips of the kernels")
    parser.add_argument("--only", default="", help="functions whose file and name contain this")
    parser.add_argument("--every", type=int, help=f"examine one slip in N (default: 1; with --cuda {cuda_gate.EVERY})")
    parser.add_argument("--turn", type=int, default=0, help="with --cuda: which ones, 0 ... N - 1")
    parser.add_argument("--processes", type=int, default=gate.usable_cores())
    parser.add_argument("--write", action="store_true", help="write the table into docs/mutation.md")
    parser.add_argument("--all", action="store_true", help="print what became of every slip")
    options = parser.parse_args()
    if options.write and (options.only or options.every is not None or options.turn):
        parser.error("--write needs a whole run")

    start = time.perf_counter()
    if options.cuda:
        every = options.every or cuda_gate.EVERY
        verdict = cuda_gate.run(options.only, options.processes, every, options.turn, _tell)
    else:
        verdict = gate.run(options.only, options.processes, options.every or 1)
    if options.all and not options.cuda:
        for outcome in verdict.outcomes:
            _tell(outcome)
    print(page.table(verdict))
    print(f"{verdict}\n{time.perf_counter() - start:.0f} s with {options.processes} processes")
    if options.write:
        page.write(verdict, page.KERNELS if options.cuda else page.BACKWARD)
    return 0 if verdict.ok else 1


def _tell(outcome: Outcome) -> None:
    print(f"{outcome.status:8} {outcome.operator:9} {outcome.id}   [{outcome.by}]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
