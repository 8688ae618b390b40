"""The recorder: what it sees of known functions, that results are the same, that nothing is left behind."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from uanref.bench import cases, instrument, ours, profile, recorder, suite, work
from uanref.bench.instrument import NAME, instrumented
from uanref.bench.recorder import Recorder

SOURCE = """
from __future__ import annotations
import functools
import numpy as np

def chain(x, out):
    y = x * 2.0 + 1.0  # two
    y -= x  # one
    np.exp(y, out=out)  # one
    out[1:] += 3.0  # one
    out[:, 0] = 0.0  # one
    picked = out[np.arange(2), 1]  # two: arange, and a copy
    shown = out[0].reshape(-1)  # views
    return float(picked.sum()) if len(shown) > 1 else None  # one

def product(a, b):
    return a @ b

def without_arrays(n: int, names: list[str]) -> tuple[int, str]:
    total: int = 0
    counted: dict[str, int] = {}
    for name in names[1:]:
        counted[name] = n + 1
        counted[name] *= 2
        total += counted[name]
    match n:
        case -1:
            total = -total
        case _ if n > 0:
            total = abs(total)
    return total, f"{total + 1:{n + 3}d}"

class Base:
    def __init__(self):
        self.total = np.zeros(3)

class Kind(Base):
    def __init__(self):
        super().__init__()
        self.total += 1.0

    @property
    def double(self):
        return 2.0 * self.total

    @staticmethod
    def less(x):
        return x - 1.0

    @classmethod
    def more(cls, x):
        return x + 1.0

@functools.cache
def cached(n):
    return np.ones(n) * 2.0

def closure(x):
    def add(y):
        return x + y
    return add

def fails(x):
    x + x
    raise OSError("broken on purpose")
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "known.py"
    path.write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("known_to_the_test", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["known_to_the_test"] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules["known_to_the_test"]


def names(seen: Recorder) -> list[str]:
    return [call.name for call in seen.calls]


def test_every_operation_of_a_known_function_is_seen(module: ModuleType) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    plain, told = np.empty((2, 3)), np.empty((2, 3))
    expected, seen, function = module.chain(x, plain), Recorder(), module.chain
    with instrumented(seen, ["known_to_the_test"]):
        assert function(x, told) == expected  # also by a name that someone imported before
    np.testing.assert_array_equal(told, plain)
    assert names(seen) == ["*", "+", "-=", "exp", "x[i] +=", "x[i] =", "arange", "x[i]", "sum"]
    assert [call.numbers for call in seen.calls] == [6, 6, 6, 6, 3, 2, 2, 2, 2]
    assert {call.kind for call in seen.calls if call.name == "exp"} == {"exp"}
    assert seen.calls[0].bytes == 2 * 6 * 8
    assert [call.site for call in seen.calls[:4]] == ["known.py:7", "known.py:7", "known.py:8", "known.py:9"]
    assert all(call.seconds >= 0.0 for call in seen.calls)


def test_a_product_has_two_operations_a_multiplication(module: ModuleType) -> None:
    seen = Recorder()
    with instrumented(seen, ["known_to_the_test"]):
        module.product(np.ones((2, 3, 4)), np.ones((4, 5)))
    (call,) = seen.calls
    assert (call.name, call.kind, call.operations) == ("@", "product", 2 * 2 * 3 * 5 * 4)
    assert call.bytes == 8 * (24 + 20 + 30)


def test_what_is_no_array_stays_what_it_is_and_does_not_count(module: ModuleType) -> None:
    expected, seen = [module.without_arrays(n, ["a", "b", "c"]) for n in (-1, 0, 2)], Recorder()
    with instrumented(seen, ["known_to_the_test"]):
        assert [module.without_arrays(n, ["a", "b", "c"]) for n in (-1, 0, 2)] == expected
    assert seen.calls == []


def test_methods_properties_closures_and_what_a_cache_holds(module: ModuleType) -> None:
    seen = Recorder()
    with instrumented(seen, ["known_to_the_test"]):
        made = module.Kind()
        assert made.double.sum() == 6.0
        assert module.Kind.less(np.ones(1)) == 0.0
        assert module.Kind.more(np.ones(1)) == 2.0
        assert module.cached(2).sum() == 4.0
        assert module.closure(np.ones(1))(np.ones(1)) == 2.0
    assert names(seen) == ["zeros", "+=", "*", "-", "+", "ones", "*", "+"]


def test_everything_is_as_it_was_also_after_an_exception(module: ModuleType) -> None:
    def codes() -> dict[str, object]:
        return {name: value.__code__ for name, value in vars(module).items() if hasattr(value, "__code__")}

    before, seen = codes(), Recorder()

    def broken() -> None:
        with instrumented(seen, ["known_to_the_test"]):
            assert NAME in vars(module)
            assert codes() != before
            module.fails(np.ones(1))

    with pytest.raises(OSError, match="broken on purpose"):
        broken()
    assert names(seen) == ["+"]
    assert NAME not in vars(module)
    assert codes() == before
    module.product(np.ones((1, 1)), np.ones((1, 1)))
    assert names(seen) == ["+"]


def test_modules_are_chosen_by_whole_names(module: ModuleType) -> None:
    seen = Recorder()
    with instrumented(seen, ["known_to_the", "known_to_the_test.below"]):
        module.product(np.ones((1, 1)), np.ones((1, 1)))
    assert seen.calls == []


def test_the_recorder_takes_its_own_time_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(recorder, "_clock", lambda: float(next(ticks)))
    seen = Recorder()
    assert seen.own == 1.0  # from one look at the clock to the next
    seen("here", np.add, np.ones(1), 1.0)
    assert seen.calls[0].seconds == 0.0


@pytest.mark.parametrize("name", ["uan-8x8", "digits-none", "cross-entropy"])
def test_a_step_under_the_recorder_has_the_same_bits(name: str) -> None:
    what = cases.CASES[name].work
    assert what is not None
    given, results, seen = work.material(what, ours.weights(ours.layers(what), what)), [], Recorder()
    for is_watched in (False, True):
        with suite.using_threads(1):
            task = ours.task(suite._with(given, what), what, given)
            if not is_watched:
                results.append(task())
                continue
            with instrumented(seen, profile.MODULES):
                results.append(task())
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(seen.calls) > 5
    assert all(NAME not in vars(module) for key, module in sys.modules.items() if key.startswith("uanref"))


def test_source_that_is_not_there_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from uanref.kernels.cpu import conv

    def missing(module: ModuleType) -> dict[tuple[str, int], object]:
        raise OSError("no source")

    before = conv.forward.__code__
    monkeypatch.setattr(instrument, "_codes", missing)
    with pytest.raises(OSError, match="no source"), instrumented(Recorder(), profile.MODULES):
        pass
    assert conv.forward.__code__ is before
