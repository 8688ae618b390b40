"""numpy-ml: layers in NumPy, images with their channels last."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import sys
import types
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.bench.peers.base import Cannot, Peer
from uanref.bench.timing import Task
from uanref.bench.work import Material, Work


class NumpyML(Peer):
    """numpy-ml 0.1.2, one layer at a time. Its buffers are float64, so part of its work is."""

    name, title, module, package = "numpy-ml", "numpy-ml", "numpy_ml.neural_nets", "numpy-ml"
    kinds = frozenset({"conv", "bn", "relu"})
    ends = frozenset({"dy", "loss"})
    on_numpy = True

    def imported(self) -> ModuleType:
        """Return ``numpy_ml.neural_nets``, without the rest of the package, which wants more than is installed.

        It takes ``Hashable`` from where Python 3.10 removed it; that is put back for the import.

        Raises:
            ModuleNotFoundError: numpy-ml is not installed.
        """
        if "numpy_ml" not in sys.modules:
            spec = importlib.util.find_spec("numpy_ml")
            if spec is None:
                raise ModuleNotFoundError("No module named 'numpy_ml'")
            bare = types.ModuleType("numpy_ml")
            bare.__path__ = list(spec.submodule_search_locations or ())
            sys.modules["numpy_ml"] = bare
        lacked = not hasattr(collections, "Hashable")
        if lacked:
            collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for part in ("activations", "layers", "losses"):
                    importlib.import_module(f"{self.module}.{part}")
                return importlib.import_module(self.module)
        finally:
            if lacked:
                del collections.Hashable  # type: ignore[attr-defined]

    def task(self, work: Work, given: Material) -> Task:
        """Return a pass through a single layer, or a loss.

        Raises:
            Cannot: there are several layers, or none such.
        """
        if len(work.stages) > 1 or (work.stages and work.end != "dy"):
            raise Cannot("numpy-ml is compared layer by layer.")
        return super().task(work, given)

    def made(self, work: Work, given: Material) -> Task:
        """Return a pass in numpy-ml's own layout: arrays are turned before, not in the time that counts."""
        nets: Any = self.found
        if work.end == "loss":
            return _loss(nets, given)
        (stage,) = work.stages
        x, dy = _last(given.x), _last(given.dy)
        if stage.kind == "relu":
            activation = nets.activations.ReLU()
            return lambda: (activation.fn(x), dy * activation.grad(x))
        (weights,) = given.weights
        layer: Any
        if stage.kind == "conv":
            layer = nets.layers.Conv2D(
                out_ch=stage.outputs, kernel_shape=(stage.kernel, stage.kernel), pad=stage.kernel // 2
            )
            values = {"W": weights["weight"].transpose(2, 3, 1, 0), "b": weights["bias"].reshape(1, 1, 1, -1)}
        else:
            layer = (nets.layers.BatchNorm2D if x.ndim == 4 else nets.layers.BatchNorm1D)(epsilon=1e-5)
            values = {"scaler": weights["gamma"], "intercept": weights["beta"]}
        layer.forward(x[:1] if stage.kind == "conv" else x)  # draws the parameters
        layer.flush_gradients()
        layer.parameters.update({name: np.ascontiguousarray(array) for name, array in values.items()})

        def run() -> tuple[Any, ...]:
            layer.flush_gradients()
            y = layer.forward(x)
            dx = layer.backward(dy)
            return (y, dx, *(layer.gradients[name] for name in values))

        return run

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return the arrays with the channels where ours are."""
        if work.end == "loss":
            return [np.asarray(each) for each in results]
        arrays = [array.transpose(0, 3, 1, 2) if array.ndim == 4 else array for array in results[:2]]
        if work.stages[0].kind == "conv":
            return [*arrays, results[2].transpose(3, 2, 0, 1), results[3].ravel()]
        return [*arrays, *results[2:]]


def _last(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _loss(nets: Any, given: Material) -> Task:
    loss, rows = nets.losses.CrossEntropy(), len(given.x)
    truth = np.eye(given.x.shape[1], dtype="float32")[given.labels]

    def run() -> tuple[Any, ...]:
        p = np.exp(given.x - given.x.max(1, keepdims=True))  # its loss takes probabilities
        p /= p.sum(1, keepdims=True)
        return (loss.loss(truth, p) / rows, loss.grad(truth, p) / rows)

    return run
