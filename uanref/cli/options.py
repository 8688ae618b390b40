"""What several commands take, and how it is read: numbers, names, lists."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from uanref.cli import completion
from uanref.experiments.recipe import DEFAULTS, LEARNING_RATES
from uanref.models import NORMS

NORM_NAMES = ", ".join(NORMS)
OWN_NORM = "mine.py:make or package.module:make, with make(num_features, rng)"
DATASETS = "digits, fashion-small, fashion, idx:FOLDER, npz:FILE"
DERIVATION_NAMES = ", ".join(completion.DERIVATIONS)


def wanted_versions(text: str | None) -> tuple[str, ...]:
    """Return what --versions names."""
    from uanref.verify.versions import wanted

    return wanted(None if text is None else entries("--versions", text, "definition,fast"))


def shown(text: Any) -> str:
    """Return what was given as a sentence shows it, its first 60 characters."""
    return repr(str(text) if len(str(text)) <= 60 else f"{str(text)[:60]}...")


def whole(least: int, most: int = 10**6) -> Callable[[Any], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: Any) -> int:
        try:
            found = int(str(text))
        except ValueError:  # no number, or one of more digits than Python reads
            found = most + 1 if str(text).isdecimal() else least - 1
        if found < least:
            raise typer.BadParameter(f"expected a whole number >= {least}, got {shown(text)}.")
        if found > most:
            raise typer.BadParameter(f"expected a whole number <= {most}, got {shown(text)}.")
        return found

    return parse


def positive(text: Any) -> float:
    """Parse a finite number > 0.

    Raises:
        BadParameter: it is none.
    """
    try:
        found = float(str(text))
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise typer.BadParameter(f"expected a finite number > 0, got {shown(text)}.")
    return found


def path(text: Any) -> Path:
    """Parse the name of a file or folder: an unset variable of a shell script should not go unnoticed.

    Raises:
        BadParameter: an empty name.
    """
    if not str(text):
        raise typer.BadParameter("expected a name, got ''.")
    return Path(str(text))


def rates(text: str) -> tuple[float, ...]:
    """Split the comma-separated learning rates of --lr.

    Raises:
        BadParameter: an entry that is no finite number > 0.
    """
    given = entries("--lr", text, "0.1,0.01")
    try:
        return tuple(positive(entry) for entry in given)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="'--lr'") from None


def entries(option: str, text: str, example: str) -> tuple[str, ...]:
    """Split a comma-separated list without empty entries.

    Raises:
        BadParameter: an empty entry.
    """
    entries = tuple(entry.strip() for entry in text.split(","))
    if not all(entries):
        message = f"expected entries separated by single commas, such as {example}, got {text!r}."
        raise typer.BadParameter(message, param_hint=f"'{option}'")
    return entries


def norm_entries(option: str, text: str) -> tuple[str, ...]:
    """Split a comma-separated list of norms, in which the path of a file of one's own may hold commas."""
    parts, found = list(entries(option, text, "bn,uan")), []
    while parts:
        size = 1
        if parts[0] not in NORMS and ":" not in parts[0]:  # the beginning of a path?
            for more in range(2, len(parts) + 1):
                if Path(",".join(parts[:more]).rpartition(":")[0]).is_file():
                    size = more
                    break
        found.append(",".join(parts[:size]))
        del parts[:size]
    return tuple(found)


def dataset_option(note: str = "") -> Any:
    """Return the option of a data set; ``note`` says what holds where it is left out."""
    help = f"one of {DATASETS}{note}"
    return typer.Option("--dataset", metavar="NAME", help=help, autocompletion=completion.datasets)


def model_option(note: str = "") -> Any:
    """Return the option of a network."""
    return typer.Option(
        "--model", metavar="NAME", help=f"mlp, cnn, shallow or shallow-one{note}", autocompletion=completion.models
    )


def components_option(note: str = "") -> Any:
    """Return the option of the number of components."""
    return typer.Option("--components", metavar="K", parser=whole(1, 1000), help=f"mixture components or modes{note}")


def epochs_option(help: str = "passes over the training images") -> Any:
    """Return the option of the number of epochs."""
    return typer.Option("--epochs", metavar="N", parser=whole(1), help=help)


def batch_size_option(note: str = "") -> Any:
    """Return the option of the batch size."""
    return typer.Option("--batch-size", metavar="N", parser=whole(1), help=f"images in a step{note}")


def optimizer_option(note: str = "") -> Any:
    """Return the option of an optimizer."""
    help = f"sgd (with Nesterov momentum 0.9), adam or adamw{note}"
    return typer.Option("--optimizer", metavar="NAME", help=help, autocompletion=completion.optimizers)


def seed_option(help: str = "of everything that is drawn") -> Any:
    """Return the option of a seed."""
    return typer.Option("--seed", metavar="N", parser=whole(0, 2**63), help=help)


def left_out(name: str) -> str:
    """Return the note of an option whose default the command itself fills in."""
    return f"; {DEFAULTS[name]} if left out"


USUAL_RATES = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
Dataset = Annotated[str, dataset_option()]
Model = Annotated[str, model_option()]
Components = Annotated[int, components_option()]
Epochs = Annotated[int, epochs_option()]
BatchSize = Annotated[int, batch_size_option()]
Optimizer = Annotated[str, optimizer_option()]
Backend = Annotated[
    str, typer.Option(metavar="NAME", help="numpy, or cupy for a GPU", autocompletion=completion.backends)
]
Seed = Annotated[int, seed_option()]
Derivation = Annotated[
    str, typer.Argument(metavar="NAME", help=DERIVATION_NAMES, autocompletion=completion.derivations)
]
Sizes = Annotated[
    list[str],
    typer.Option("--size", metavar="AXIS=N", help="length of an axis, such as m=6 or k=2; may be repeated"),
]
Inputs = Annotated[
    Path | None,
    typer.Option("--inputs", metavar="FILE", parser=path, help="an .npz with one array per input, and upstream"),
]
ExampleSeed = Annotated[int, seed_option("of the example's numbers")]
Versions = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="definition, fast or both; both if left out, with UANREF_PLAIN=1 the definition alone",
        autocompletion=completion.versions,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", metavar="N", parser=whole(1), help="processes at a time; one a core if left out, one on a GPU"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="remove the results that --out holds first")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")]
