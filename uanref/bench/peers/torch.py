"""PyTorch: its own layers, and for UAN its autograd over the formula."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from uanref.backend import Array
from uanref.bench.peers import formula
from uanref.bench.peers.base import Peer
from uanref.bench.timing import Task
from uanref.bench.work import PARAMETERS, RATE, Material, Work


class Torch(Peer):
    """PyTorch as it runs by default."""

    name, title, module, package = "torch", "PyTorch", "torch", "torch"
    install = 'pip install ".[oracle]"'
    kinds = frozenset({"conv", "linear", "bn", "uan", "relu", "gelu", "pool", "global_pool", "flatten"})

    @contextlib.contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Set PyTorch's threads inside this block."""
        torch: Any = self.found
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def compiled(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return what runs forward passes."""
        return forward

    def made(self, work: Work, given: Material) -> Task:
        """Return a pass over tensors that share no memory with ours."""
        torch: Any = self.found
        functional = torch.nn.functional
        leaves = [{n: torch.from_numpy(w.copy()).requires_grad_() for n, w in one.items()} for one in given.weights]
        every = [leaf for one in leaves for leaf in one.values()]
        running = [(torch.zeros(stage.inputs), torch.ones(stage.inputs)) for stage in work.stages]
        x, dy, labels = (torch.from_numpy(array.copy()) for array in (given.x, given.dy, given.labels))
        of = _operations(torch)

        def forward(y: Any) -> Any:
            for stage, weights, moments in zip(work.stages, leaves, running, strict=True):
                match stage.kind:
                    case "conv":
                        half = stage.kernel // 2
                        y = functional.conv2d(y, weights["weight"], weights.get("bias"), padding=half)
                    case "linear":
                        y = functional.linear(y, weights["weight"], weights.get("bias"))
                    case "bn":
                        y = functional.batch_norm(y, *moments, weights["gamma"], weights["beta"], training=True)
                    case "uan":
                        y = formula.uan(of, y, *(weights[name] for name in PARAMETERS["uan"]))
                    case "relu":
                        y = functional.relu(y)
                    case "gelu":
                        y = functional.gelu(y)
                    case "pool":
                        y = functional.max_pool2d(y, 2)
                    case "global_pool":
                        y = y.mean((2, 3))
                    case "flatten":
                        y = y.flatten(1)
            return y

        if work.end != "step":
            x.requires_grad_()
        if work.end == "dy":
            run = self.compiled(forward)

            def there_and_back() -> tuple[Any, ...]:
                y = run(x)
                return (y.detach(), *torch.autograd.grad(y, [x, *every], dy))

            return there_and_back
        judge = self.compiled(lambda x: functional.cross_entropy(forward(x), labels))
        if work.end == "loss":

            def loss_and_back() -> tuple[Any, ...]:
                loss = judge(x)
                return (loss.detach(), *torch.autograd.grad(loss, [x]))

            return loss_and_back
        optimizer = torch.optim.Adam(every, lr=RATE)

        def step() -> tuple[Any, ...]:
            optimizer.zero_grad()
            loss = judge(x)
            loss.backward()
            optimizer.step()
            return (loss.detach(),)

        return step

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return the tensors as arrays."""
        return [tensor.numpy() for tensor in results]


def _operations(torch: Any) -> formula.Operations:
    return formula.Operations(
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        square=torch.square,
        softplus=torch.nn.functional.softplus,
        sum=lambda x, axes: x.sum(axes, keepdim=True),
        logsumexp=lambda x: torch.logsumexp(x, dim=0, keepdim=True),
        log_softmax=lambda x: torch.log_softmax(x, dim=0),
        reshape=lambda x, shape: x.reshape(shape),
        number=float,
    )
