"""MyGrad: autograd over NumPy."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.bench.peers import formula
from uanref.bench.peers.base import Peer
from uanref.bench.timing import Task
from uanref.bench.work import PARAMETERS, Material, Work


class MyGrad(Peer):
    """MyGrad with its memory guard off, which its documentation advises for speed."""

    name, title, module, package = "mygrad", "MyGrad", "mygrad", "mygrad"
    kinds = frozenset({"conv", "linear", "bn", "uan", "relu", "pool", "flatten"})
    ends = frozenset({"dy", "loss"})
    on_numpy = True

    def made(self, work: Work, given: Material) -> Task:
        """Return a pass that builds its graph each time, as training does."""
        mg: Any = self.found
        layers, losses, activations = (
            importlib.import_module(f"mygrad.nnet.{name}") for name in ("layers", "losses", "activations")
        )
        mg.turn_memory_guarding_off()
        of = formula.Operations(
            exp=mg.exp,
            log=mg.log,
            sqrt=mg.sqrt,
            square=mg.square,
            softplus=lambda x: mg.logaddexp(np.float32(0.0), x),
            sum=lambda x, axes: mg.sum(x, axis=axes, keepdims=True),
            logsumexp=lambda x: _logsumexp(mg, x),
            log_softmax=lambda x: x - _logsumexp(mg, x),
            reshape=lambda x, shape: x.reshape(shape),
            number=np.float32,
        )

        def forward(y: Any, leaves: Any) -> Any:
            for stage, w in zip(work.stages, leaves, strict=True):
                match stage.kind:
                    case "conv":
                        y = layers.conv_nd(y, w["weight"], stride=1, padding=stage.kernel // 2)
                    case "linear":
                        y = mg.matmul(y, w["weight"].T)
                    case "bn":
                        y = layers.batchnorm(y, gamma=w["gamma"], beta=w["beta"], eps=1e-5)
                    case "uan":
                        y = formula.uan(of, y, *(w[name] for name in PARAMETERS["uan"]))
                    case "relu":
                        y = activations.relu(y)
                    case "pool":
                        y = layers.max_pool(y, (2, 2), 2)
                    case "flatten":
                        y = y.reshape((y.shape[0], -1))
                if "bias" in w:
                    y = y + w["bias"].reshape((1, -1) + (1,) * (y.ndim - 2))
            return y

        def run() -> tuple[Any, ...]:
            x = mg.tensor(given.x, copy=False)
            leaves = [{name: mg.tensor(array, copy=False) for name, array in one.items()} for one in given.weights]
            y = forward(x, leaves)
            if work.end == "loss":
                y = losses.softmax_crossentropy(y, given.labels)
                y.backward()
                return (y.data, x.grad)
            y.backward(given.dy)
            return (y.data, x.grad, *(leaf.grad for one in leaves for leaf in one.values()))

        return run

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return the arrays as they are."""
        return list(results)


def _logsumexp(mg: Any, x: Any) -> Any:
    top = x.data.max(0, keepdims=True)
    return mg.log(mg.sum(mg.exp(x - top), axis=0, keepdims=True)) + top
