"""The mutation gate: every slip that can be written into a backward pass must turn a gradient check red.

A second gate does the same for the kernels: a slip in CUDA code must make the device differ from the host.

`python -m mutation` from the folder `tests` runs it; `docs/mutation.md` tells what it does and what it found.

    operators.py   the slips: what stands there, and what a slip would write
    targets.py     which functions are backward code; a slip put in place of one, seen by the whole package
    cases.py       what is checked: the catalogue of `uanref check` and a few cases more
    gate.py        slip by slip: killed by which case, or survived
    page.py        the table of docs/mutation.md
    equivalent.toml  slips that change no gradient, each with the reason

    cuda_operators.py, cuda_cases.py, cuda_gate.py, cuda_equivalent.toml   the same for uanref/kernels/*.cu
    cuda_memory.py   arrays between guards, so that a write outside of one is seen
"""
