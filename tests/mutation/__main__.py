"""``python -m mutation``: run the gate and print what survived; ``--write`` puts the tables into docs/mutation.md.

Backward code in float64, judged by the gradient checks; forward code of the CPU versions, judged by their definitions;
both passes in float32, judged by the float64 results. ``--part`` runs one of the three.

``--cuda``: the gate of the kernels, a sample of the slips; ``--again FILE`` what survived an earlier run,
listed as equivalent or not, from its output.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from mutation import cuda_gate, gate, page, parity, single
from mutation.gate import Outcome

PARTS = ("backward", "versions", "float32")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("--cuda", action="store_true", help="the slips of the kernels")
    parser.add_argument("--part", choices=PARTS, help="one of the three parts on the host (default: all)")
    parser.add_argument("--only", default="", help="functions whose file and name contain this")
    parser.add_argument("--every", type=int, help=f"examine one slip in N (default: 1; with --cuda {cuda_gate.EVERY})")
    parser.add_argument(
        "--turn", type=int, default=0, help="of a sample, not of backward code: which ones, 0 ... N - 1"
    )
    parser.add_argument("--again", type=Path, metavar="FILE", help="with --cuda: what survived, by this output")
    parser.add_argument("--processes", type=int, default=gate.usable_cores())
    parser.add_argument("--write", action="store_true", help="write the table into docs/mutation.md")
    parser.add_argument("--all", action="store_true", help="print what became of every slip")
    options = parser.parse_args()
    if options.write and (options.only or options.every is not None or options.turn or options.again):
        parser.error("--write needs a whole run")
    if options.again and not options.cuda:
        parser.error("--again needs --cuda")

    start = time.perf_counter()
    verdicts = {}
    if options.cuda:
        every = options.every or cuda_gate.EVERY
        names = cuda_gate.survivors(options.again.read_text("utf-8")) if options.again else None
        verdicts[page.KERNELS] = cuda_gate.run(options.only, options.processes, every, options.turn, _tell, names)
    else:
        every = options.every or 1
        chosen, turn = options.part or PARTS, options.turn % every
        if "backward" in chosen:
            verdicts[page.BACKWARD] = gate.run(options.only, options.processes, every)
        if "versions" in chosen:
            verdicts[page.VERSIONS] = parity.run(options.only, options.processes, every, turn)
        if "float32" in chosen:
            verdicts[page.SINGLE] = single.run(options.only, options.processes, every, turn)
    titles = {page.BACKWARD: "backward", page.VERSIONS: "versions", page.SINGLE: "float32", page.KERNELS: "kernels"}
    for place, verdict in verdicts.items():
        if options.all and not options.cuda:
            for outcome in verdict.outcomes:
                _tell(outcome)
        print(f"\n{page.table(verdict)}\n{titles[place]}: {verdict}")
        if options.write:
            page.write(verdict, place)
    print(f"{time.perf_counter() - start:.0f} s with {options.processes} processes")
    return 0 if all(verdict.ok for verdict in verdicts.values()) else 1


def _tell(outcome: Outcome) -> None:
    print(f"{outcome.status:8} {outcome.operator:9} {outcome.id}   [{outcome.by}]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
