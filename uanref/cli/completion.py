"""Shell completion: which values an option proposes when Tab is pressed, and the shells that can ask.

The script that a shell loads is Typer's (``uanref --show-completion``). What is proposed is not all that is allowed: a
norm may be a file's function and a data set a folder, which the shell completes as files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from uanref.experiments.registry import NAMES as EXPERIMENTS
from uanref.models import MODELS, NORMS

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
"""The shells that Typer writes a script for."""
# As uanref.derivations has them; importing those would slow every command.
DERIVATIONS = (
    "linear",
    "relu",
    "conv",
    "softmax-cross-entropy",
    "bn",
    "bn-eval",
    "layer-norm",
    "posterior",
    "uan",
    "uan-learned",
    "uan-shared",
    "adam",
)


# As uanref.bench.cases and uanref.bench.peers have them.
BENCH_CASES = (
    "digits-none",
    "digits-bn",
    "digits-uan",
    "mlp-none",
    "mlp-bn",
    "mlp-uan",
    "cnn-bn",
    "cnn-uan",
    "conv-16-32",
    "conv-64-64",
    "conv5-3-32",
    "conv5-64-128",
    "conv-1-16",
    "conv-16-16",
    "maxpool",
    "relu",
    "gelu",
    "batchnorm-8x8",
    "batchnorm-512",
    "batchnorm",
    "uan-8x8",
    "uan-512",
    "uan",
    "uan-batchnorm",
    "cross-entropy",
    "recording",
    "recording-mlp",
    "import",
    "help",
)
PEERS = ("torch", "torch-compile", "jax", "mygrad", "numpy-ml", "chainer")


def one_of(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Propose those of ``values`` that begin as typed."""
    values = tuple(values)

    def propose(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return propose


def list_of(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Propose what may follow the last comma: those of ``values`` that begin as typed and are not in the list yet."""
    values = tuple(values)

    def propose(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [before + comma + value for value in values if value.startswith(last) and value not in given]

    return propose


def require_shell() -> None:
    """Refuse ``--show-completion`` and ``--install-completion`` where the shell is none of :data:`SHELLS`.

    Raises:
        typer.BadParameter: it is another shell, or none can be found.
    """
    import shellingham

    try:
        name = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        name = "none that can be recognized"
    if name not in SHELLS:
        raise typer.BadParameter(
            f"the shell is {name}: completion works in {', '.join(SHELLS)}, run the command there."
        )


backends = one_of(["numpy", "cupy"])
"""Proposals for ``--backend``."""
bench_cases = list_of(["all", *BENCH_CASES])
"""Proposals for ``bench --case``."""
datasets = one_of(["digits", "fashion-small", "fashion", "mnist-5k"])
"""Proposals for ``--dataset``, those that need no place."""
derivations = one_of(DERIVATIONS)
"""Proposals for what ``step`` and ``explore`` take."""
experiments = one_of(["list", *EXPERIMENTS])
"""Proposals for what ``experiment`` takes."""
models = one_of(MODELS)
"""Proposals for ``--model``."""
norms = one_of(NORMS)
"""Proposals for ``--norm``."""
norm_lists = list_of(NORMS)
"""Proposals for ``--norms``."""
optimizers = one_of(["sgd", "adam", "adamw"])
"""Proposals for ``--optimizer``."""
peers = list_of(PEERS)
"""Proposals for ``bench --against``."""
schedules = one_of(["constant", "cosine"])
"""Proposals for ``--schedule``."""
scales = one_of(["tiny", "small", "paper"])
"""Proposals for ``--scale``."""
versions = list_of(["definition", "fast"])
"""Proposals for ``--versions``."""
