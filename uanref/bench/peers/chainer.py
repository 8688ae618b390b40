"""Chainer 7.8.1, the last one: NumPy arrays under its autograd."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.bench.peers import formula
from uanref.bench.peers.base import Peer
from uanref.bench.timing import Task
from uanref.bench.work import PARAMETERS, RATE, Material, Work

_SCTYPES = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
    "complex": [np.complex64, np.complex128],
    "others": [bool, object, bytes, str, np.void],
}


class Chainer(Peer):
    """Chainer without iDeep, on NumPy alone."""

    name, title, module, package = "chainer", "Chainer", "chainer", "chainer"
    install = "install chainer with pip's --no-build-isolation, beside setuptools below 70"
    kinds = frozenset({"conv", "linear", "bn", "uan", "relu", "gelu", "pool", "global_pool", "flatten"})
    on_numpy = True

    def imported(self) -> ModuleType:
        """Return the package. It takes ``numpy.sctypes``, which NumPy 2 removed; that is put back for the import."""
        lacked = "sctypes" not in vars(np)
        if lacked:
            vars(np)["sctypes"] = _SCTYPES
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(self.module)
        finally:
            if lacked:
                del vars(np)["sctypes"]

    def made(self, work: Work, given: Material) -> Task:
        """Return a pass that builds its graph each time, as training does."""
        chainer: Any = self.found
        functions = chainer.functions

        def log_softmax(x: Any) -> Any:
            return functions.log_softmax(x, axis=0)

        of = formula.Operations(
            exp=functions.exp,
            log=functions.log,
            sqrt=functions.sqrt,
            square=functions.square,
            softplus=functions.softplus,
            sum=lambda x, axes: functions.sum(x, axis=axes, keepdims=True),
            logsumexp=lambda x: functions.expand_dims(functions.logsumexp(x, axis=0), 0),
            log_softmax=log_softmax,
            reshape=functions.reshape,
            number=float,
        )
        net = chainer.Link()
        with net.init_scope():
            for i, one in enumerate(given.weights):
                for name, array in one.items():
                    setattr(net, f"{name}_{i}", chainer.Parameter(array.copy()))
        leaves = [{name: getattr(net, f"{name}_{i}") for name in one} for i, one in enumerate(given.weights)]
        every = [leaf for one in leaves for leaf in one.values()]
        labels = given.labels.astype("int32")

        def forward(y: Any) -> Any:
            for stage, w in zip(work.stages, leaves, strict=True):
                match stage.kind:
                    case "conv":
                        y = functions.convolution_2d(y, w["weight"], w.get("bias"), pad=stage.kernel // 2)
                    case "linear":
                        y = functions.linear(y, w["weight"], w.get("bias"))
                    case "bn":
                        y = functions.batch_normalization(y, w["gamma"], w["beta"], eps=1e-5)
                    case "uan":
                        y = formula.uan(of, y, *(w[name] for name in PARAMETERS["uan"]))
                    case "relu":
                        y = functions.relu(y)
                    case "gelu":
                        y = 0.5 * y * (1 + functions.erf(y * np.float32(0.5**0.5)))
                    case "pool":
                        y = functions.max_pooling_2d(y, 2)
                    case "global_pool":
                        y = functions.mean(y, axis=(2, 3))
                    case "flatten":
                        y = functions.reshape(y, (y.shape[0], -1))
            return y

        def there_and_back() -> tuple[Any, ...]:
            net.cleargrads()
            x = chainer.Variable(given.x)
            y = forward(x)
            if work.end == "loss":
                y = functions.softmax_cross_entropy(y, labels)
            else:
                y.grad = given.dy
            y.backward()
            return (y.array, x.grad, *(leaf.grad for leaf in every))

        if work.end != "step":
            return there_and_back
        optimizer = chainer.optimizers.Adam(alpha=RATE)
        optimizer.setup(net)

        def step() -> tuple[Any, ...]:
            net.cleargrads()
            loss = functions.softmax_cross_entropy(forward(given.x), labels)
            loss.backward()
            optimizer.update()
            return (loss.array,)

        return step

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return the arrays as they are."""
        return list(results)
