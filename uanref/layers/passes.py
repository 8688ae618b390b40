"""What holds for every forward and backward pass: whose it is, how many wait, who watches, that underflow is quiet.

:func:`surrounded` goes around ``forward`` and ``backward`` of every class when it is defined, so that no layer needs a
line for it. The arithmetic is the layer's alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from uanref import backend
from uanref.backend import Array, DType

if TYPE_CHECKING:
    from uanref.layers.layer import Layer

MANY = 1000
"""So many forward passes may wait for their backward passes before a warning says what they cost."""


def surround(kind: type, *names: str) -> None:
    """Put :func:`surrounded` around those of the methods ``names`` that class ``kind`` defines itself."""
    for name in names:
        if name in vars(kind):
            setattr(kind, name, surrounded(vars(kind)[name]))


def surrounded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``method`` so that underflow is quiet in it and that :func:`watch` sees it; it stays at ``__wrapped__``.

    A number that became 0 is what exp is expected to give: under ``numpy.seterr(under="raise")`` nothing would train.
    Overflow, division by 0 and invalid operations stay as the caller set them.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with backend.quiet_underflow():
            watches = _watches.get()
            if not watches:
                return method(self, *args, **kwargs)
            mine = [(watch, watch._state()) for watch in watches if watch._enter(self)]
            if not mine:
                return method(self, *args, **kwargs)
            given = next(iter((*args, *kwargs.values())), None)  # backward(dy) or backward(dy=dy)
            try:
                for watch, _ in mine:
                    watch._before(self, method.__name__, given)
                result = method(self, *args, **kwargs)
                for watch, _ in mine:
                    watch._note(self, method.__name__, given, result)
                return result
            except BaseException:
                for watch, before in mine:
                    watch._restore(before)
                raise
            finally:
                for watch, _ in mine:
                    watch._running.discard(id(self))

    return call


# --- whose pass it is ---------------------------------------------------------------------------


class _Thread(threading.local):
    """A thread's number, which no later thread gets again, and how many passes it kept."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(self.numbers)
        self.kept = 0


_here = _Thread()
_removing = threading.Lock()
_last_warning: tuple[int, int] = (-1, 0)  # the thread's number and its passes then


class Pending(NamedTuple):
    """A forward pass that waits for its backward pass.

    Attributes:
        cache: what the backward pass needs.
        shape: of the output, as are ``dtype`` and ``where``, its backend: a layer's backward pass compares them.
        thread: whose pass it is; -1 where a layer writes its pending passes down by itself, as a tuple without it.
        alone: whether those that it found waiting were all the same thread's: then nobody needs to look at them again.
    """

    cache: Any
    shape: tuple[int, ...] = ()
    dtype: DType | None = None
    where: str = ""
    thread: int = -1
    alone: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is the calling thread's."""
        return self.thread in (_here.number, -1)


def pend(
    pending: list[Any], cache: Any, shape: tuple[int, ...] = (), dtype: DType | None = None, where: str = ""
) -> None:
    """Append the calling thread's pass to those that wait."""
    before = Pending(*pending[-1]) if pending else None
    alone = before is None or (before.alone and before.thread == _here.number)
    pending.append(Pending(cache, shape, dtype, where, _here.number, alone))


def refuse_others(name: str, pending: Sequence[Any], what: str) -> None:
    """Raise RuntimeError if one of the ``pending`` passes of layer ``name`` is another thread's."""
    if not pending or ((last := Pending(*pending[-1])).alone and last.is_ours):
        return
    if not all(Pending(*each).is_ours for each in pending):
        raise RuntimeError(
            f"{name}.{what} in one thread while a forward pass of another thread is pending: gradients and state "
            "would mix; give each thread a copy of the layer, finish or clear() the pass before the layer is handed "
            "on, or predict inside backend.inference(), which each thread enters itself"
        )


def latest(name: str, pending: Sequence[Any]) -> Pending:
    """Return the latest of the ``pending`` passes of layer ``name`` that is the calling thread's; there are some.

    Raises:
        RuntimeError: they are all another thread's.
    """
    for each in reversed(pending):
        if (found := each if type(each) is Pending else Pending(*each)).is_ours:
            return found
    refuse_others(name, pending, "backward")
    raise AssertionError  # not reached: none is ours


def remove(pending: list[Any], used: Pending) -> None:
    """Remove the pass that :func:`latest` returned, while other threads may add and remove theirs."""
    with _removing:
        if pending and pending[-1] is used:  # nearly always
            pending.pop()
            return
        for i in reversed(range(len(pending))):
            if pending[i][0] is used.cache and Pending(*pending[i]).thread == used.thread:
                del pending[i]
                return


def count_pending(name: str, pending: int) -> None:
    """Warn when ``pending`` forward passes of layer ``name`` wait; once for all the layers of a model.

    The layers of a model reach the number in one and the same pass: who follows so shortly does not warn again.
    """
    global _last_warning
    _here.kept += 1
    if pending == MANY:
        thread, kept = _last_warning
        if thread != _here.number or _here.kept - kept >= MANY:
            _last_warning = _here.number, _here.kept
            warnings.warn(
                f"{MANY} forward passes of {name} wait for a backward pass, and their arrays stay in memory: "
                "predict inside backend.inference(), or call clear() to forget them",
                UserWarning,
                stacklevel=4,
            )


# --- who watches --------------------------------------------------------------------------------


class Watch:
    """What :func:`watch` saw: arrays by the layers' dotted names, ``""`` being the watched layer itself.

    The arrays are those that the layers returned and took, no copies: they stay in memory as long as this does.

    Attributes:
        activations: the output of each layer's latest forward pass.
        gradients: dL/doutput of the same pass, of the output's shape, once its backward pass began.
    """

    def __init__(self, layer: Layer) -> None:
        self.activations: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self._names: dict[int, list[str]] = {}
        self._passes: dict[int, list[str]] = {}  # names of the forward passes whose backward passes are to come
        self._calls: dict[int, int] = {}
        self._running: set[int] = set()
        for name, module in layer.modules():
            self._names.setdefault(id(module), []).append(name)

    def _enter(self, layer: object) -> bool:
        """Tell whether this call is to be noted: one of a watched layer, and not a call of its own base class."""
        if id(layer) not in self._names or id(layer) in self._running:
            return False
        self._running.add(id(layer))
        return True

    def _state(self) -> tuple[dict[int, int], dict[int, list[str]]]:
        return dict(self._calls), {layer: list(names) for layer, names in self._passes.items()}

    def _restore(self, before: tuple[dict[int, int], dict[int, list[str]]]) -> None:
        """Forget the calls of a pass that raised: the next one begins at a layer's first place again."""
        self._calls, self._passes = before

    def _before(self, layer: object, which: str, given: Any) -> None:
        """See what a pass is given before the layer can change it."""

    def _note(self, layer: object, which: str, given: Any, result: Any) -> None:
        names, passes = self._names[id(layer)], self._passes.setdefault(id(layer), [])
        if which == "forward":
            # A layer that stands in several places is called in their order.
            calls = self._calls[id(layer)] = self._calls.get(id(layer), -1) + 1
            name = names[calls % len(names)]
            passes.append(name)
            self.activations[name] = result
            self.gradients.pop(name, None)
        else:
            name = passes.pop() if passes else names[-1]
            self.gradients.setdefault(name, given)  # the latest forward pass has the first backward pass

    def __repr__(self) -> str:
        return f"Watch({len(self.activations)} activations, {len(self.gradients)} gradients)"


_watches: contextvars.ContextVar[tuple[Watch, ...]] = contextvars.ContextVar("uanref_watches", default=())


@contextlib.contextmanager
def watch(layer: Layer) -> Iterator[Watch]:
    """Record the passes of ``layer`` and of all layers below it: see :meth:`uanref.layers.layer.Layer.watch`."""
    seen = Watch(layer)
    with watching(seen):
        yield seen


@contextlib.contextmanager
def watching(seen: Watch) -> Iterator[None]:
    """Let ``seen`` note the passes inside this block."""
    token = _watches.set((*_watches.get(), seen))
    try:
        yield
    finally:
        _watches.reset(token)
