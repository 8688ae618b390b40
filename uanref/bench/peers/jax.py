"""JAX: every pass is one compiled function; convolutions and pooling by XLA, norms by their formulas."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.bench.peers import formula
from uanref.bench.peers.base import Cannot, Peer
from uanref.bench.timing import Task
from uanref.bench.work import PARAMETERS, RATE, Material, Work


class Jax(Peer):
    """JAX on the CPU, in the layouts of ours."""

    name, title, module, package = "jax", "JAX", "jax", "jax"
    kinds = frozenset({"conv", "linear", "bn", "uan", "relu", "gelu", "pool", "global_pool", "flatten"})
    _threads = 0

    def start(self, threads: int) -> None:
        """Start XLA with so many threads; it keeps them as long as the process lives."""
        before = dict(os.environ)
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(threads)
        if threads == 1:
            os.environ["XLA_FLAGS"] = f"{before.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
        try:
            self.found.devices("cpu")
        finally:
            for name in ("PJRT_NPROC", "NPROC", "XLA_FLAGS"):
                os.environ.pop(name, None)
            os.environ.update(before)
        self._threads = threads

    @contextlib.contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Yield.

        Raises:
            Cannot: XLA has been started with another number of threads.
        """
        if not self._threads:
            self.start(threads)
        if threads != self._threads:
            raise Cannot(
                f"JAX keeps the number of threads that it started with, {self._threads}: for {threads} name the case "
                "alone, with --case."
            )
        yield

    def made(self, work: Work, given: Material) -> Task:
        """Return a compiled pass; it is waited for."""
        jax: Any = self.found
        xp, nn = jax.numpy, jax.nn
        with jax.default_device(jax.devices("cpu")[0]):
            weights = tuple({name: xp.asarray(w) for name, w in one.items()} for one in given.weights)
            x, dy, labels = xp.asarray(given.x), xp.asarray(given.dy), xp.asarray(given.labels.astype("int32"))
        of = formula.Operations(
            exp=xp.exp,
            log=xp.log,
            sqrt=xp.sqrt,
            square=xp.square,
            softplus=nn.softplus,
            sum=lambda x, axes: x.sum(axes, keepdims=True),
            logsumexp=lambda x: nn.logsumexp(x, axis=0, keepdims=True),
            log_softmax=lambda x: nn.log_softmax(x, axis=0),
            reshape=xp.reshape,
            number=float,
        )

        def forward(y: Any, weights: Any) -> Any:
            for stage, w in zip(work.stages, weights, strict=True):
                column = (1, -1) + (1,) * (y.ndim - 2)
                match stage.kind:
                    case "conv":
                        y = jax.lax.conv(y, w["weight"], (1, 1), "SAME")
                    case "linear":
                        y = y @ w["weight"].T
                    case "bn":
                        axes = (0, *range(2, y.ndim))
                        centred = y - y.mean(axes, keepdims=True)
                        scale = jax.lax.rsqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
                        y = centred * scale * w["gamma"].reshape(column) + w["beta"].reshape(column)
                    case "uan":
                        y = formula.uan(of, y, *(w[name] for name in PARAMETERS["uan"]))
                    case "relu":
                        y = nn.relu(y)
                    case "gelu":
                        y = nn.gelu(y, approximate=False)
                    case "pool":
                        window = (1, 1, 2, 2)
                        y = jax.lax.reduce_window(y, -xp.inf, jax.lax.max, window, window, "VALID")
                    case "global_pool":
                        y = y.mean((2, 3))
                    case "flatten":
                        y = y.reshape(y.shape[0], -1)
                if "bias" in w:
                    y = y + w["bias"].reshape((1, -1) + (1,) * (y.ndim - 2))
            return y

        def judge(x: Any, weights: Any) -> Any:
            return -xp.take_along_axis(nn.log_softmax(forward(x, weights)), labels[:, None], 1).mean()

        def there_and_back(x: Any, dy: Any, weights: Any) -> Any:
            y, pull = jax.vjp(forward, x, weights)
            dx, gradients = pull(dy)
            return (y, dx, *(one[name] for one, w in zip(gradients, given.weights, strict=True) for name in w))

        def step(weights: Any, m: Any, v: Any, t: Any) -> Any:
            loss, g = jax.value_and_grad(lambda weights: judge(x, weights))(weights)
            every = jax.tree_util.tree_map
            m = every(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = every(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            root = xp.sqrt(1 - 0.999**t)
            rate = RATE / (1 - 0.9**t)
            weights = every(lambda w, m, v: w - rate * m / (xp.sqrt(v) / root + 1e-8), weights, m, v)
            return loss, weights, m, v

        if work.end == "dy":
            run = jax.jit(there_and_back)
            return lambda: tuple(jax.block_until_ready(run(x, dy, weights)))
        if work.end == "loss":
            both = jax.jit(jax.value_and_grad(lambda x: judge(x, weights)))
            return lambda: tuple(jax.block_until_ready(both(x)))
        zeros = jax.tree_util.tree_map(xp.zeros_like, weights)
        state = [weights, zeros, zeros]
        moved, taken = jax.jit(step), [0]

        def train() -> tuple[Any, ...]:
            taken[0] += 1
            loss, *state[:] = jax.block_until_ready(moved(*state, float(taken[0])))
            return (loss,)

        return train

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return copies of the arrays."""
        return [np.asarray(array) for array in results]
