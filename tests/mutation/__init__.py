"""The mutation gates: every slip that can be written into a backward pass must turn a gradient check red.

In definitions and in the CPU versions. A slip in a version's forward code, or in CUDA code, must make it differ from
its definition.

`python -m mutation` from the folder `tests` runs it; `docs/mutation.md` tells what it does and what it found.

    operators.py   the slips: what stands there, and what a slip would write
    targets.py     which functions there are and which run; a slip put in place of one, seen by the whole package
    cases.py       what is checked: the catalogue of `uanref check` and a few cases more
    gate.py        slip by slip: killed by which case, or survived
    parity.py      slips in the forward code of CPU versions
    single.py      the same slips in float32, and faults that act in float32 alone
    page.py        the tables of docs/mutation.md
    equivalent.toml  slips that change nothing, or speed alone, each with the reason

    cuda_operators.py, cuda_cases.py, cuda_gate.py, cuda_equivalent.toml   the same for uanref/kernels/cuda/*.cu
    cuda_memory.py   arrays between guards, so that a write outside of one is seen
"""
