"""What ``uanref compare`` compares: checked when it is made, so that nothing starts on bad input."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from uanref import backend, models
from uanref.experiments import recipe
from uanref.factories import Factory, Norm
from uanref.layers.base import choice, count, number

MAX_SEEDS = 10_000  # a slip of the keyboard should not fill the memory with plans


@dataclass(frozen=True)
class Asked:
    """What was compared, as it stands in the cells of a comparison; see :class:`Settings` for the attributes."""

    dataset: str = recipe.DEFAULTS["dataset"]
    model: str = recipe.DEFAULTS["model"]
    norms: tuple[Any, ...] = ("none", "bn", "uan", "uan-learned")
    components: int = recipe.DEFAULTS["components"]
    seeds: int = 3
    epochs: int = recipe.EPOCHS
    lrs: tuple[float, ...] = ()
    batch_size: int = recipe.DEFAULTS["batch_size"]
    optimizer: str = recipe.DEFAULTS["optimizer"]
    backend: str = "numpy"
    factories: Mapping[str, Factory] = field(default_factory=dict, hash=False)

    def runs(self) -> list[tuple[str, float, int]]:
        """Return the norm, learning rate and seed of every run, in the order of the results."""
        return list(itertools.product(self.norms, self.lrs, range(self.seeds)))


@dataclass(frozen=True)
class Settings(Asked):
    """What is compared; checked when it is made, so that nothing starts on bad input.

    Attributes:
        dataset: as ``data.load`` takes it.
        model: one of ``models.MODELS``.
        norms: each once: of ``models.NORMS``, or one's own, as ``models.find_norm`` takes it, which is tried at once.
            Afterwards these are their labels.
        components: K of the UANs.
        seeds: how many: 0 ... seeds - 1.
        epochs: of each run.
        lrs: learning rates, each once; empty means the optimizer's usual one.
        batch_size: samples a step.
        optimizer: one of ``recipe.OPTIMIZERS``.
        backend: ``"numpy"`` or ``"cupy"``.
        factories: filled in: the norms of one's own, by label.

    Raises:
        ValueError: an unknown name, an empty list, a repeated entry, a number out of range.
        TypeError: no number where one is expected.
        BackendUnavailable: the backend cannot run here.
    """

    def __post_init__(self) -> None:
        choice("model", self.model, models.MODELS)
        choice("optimizer", self.optimizer, recipe.OPTIMIZERS)
        if isinstance(self.norms, str):
            raise TypeError(f"norms must be a list of norms, got {self.norms!r}")
        known: Mapping[Any, Factory] = self.factories  # of other settings that these are made from
        named = [known.get(norm, norm) if isinstance(norm, str) else norm for norm in _distinct("norms", self.norms)]
        found = models.find_norms(named)
        for norm in found:
            models.check_norm(norm, self.model)
        object.__setattr__(self, "norms", tuple(models.label(norm) for norm in found))
        object.__setattr__(self, "factories", {norm.label: norm for norm in found if isinstance(norm, Factory)})
        for option in ("components", "seeds", "epochs", "batch_size"):
            count(option, getattr(self, option))
        if self.seeds > MAX_SEEDS:
            raise ValueError(f"seeds must be <= {MAX_SEEDS}, got {self.seeds}: seeds says how many runs of each norm")
        if not self.lrs:
            object.__setattr__(self, "lrs", (recipe.LEARNING_RATES[self.optimizer],))
        for lr in _distinct("learning rates", self.lrs):
            number("lr", lr, 0.0, open_low=True)
        backend.require(self.backend)

    def norm(self, label: str) -> Norm:
        """Return the norm that ``label`` stands for."""
        return self.factories.get(label, label)


def _distinct(name: str, entries: Sequence[Any]) -> Sequence[Any]:
    """Return ``entries`` if there are any and none is repeated.

    Raises:
        ValueError: there are none, or one is repeated.
    """
    if not entries:
        raise ValueError(f"{name}: the list is empty, give at least one entry")
    repeated = [str(entry) for i, entry in enumerate(entries) if entry in entries[:i]]
    if repeated:
        raise ValueError(f"{name}: {repeated[0]} is listed twice, give each entry once")
    return entries
