"""Threads: how many there may be, that BLAS keeps to one meanwhile, and that their number changes no bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl
from support.arrays import draw_array

from uanref import backend
from uanref.kernels.cpu import blocks as cpu
from uanref.kernels.cpu import threads
from uanref.kernels.cpu.standardize import channel_moments
from uanref.layers.conv import Conv2d


def test_small_walks_stay_on_the_calling_thread() -> None:
    blocks = cpu.sample_blocks(np.zeros((8, 1)), 1, 8)
    with backend.limit_threads(4):
        names = cpu.walk(lambda block, scratch: threading.get_ident(), blocks, elements=8)
    assert set(names) == {threading.get_ident()}


def test_threads_follow_the_environment_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert backend.threads() == 3
    for nested in ("4,2", " 4 , 2", "4,", "4,nonsense"):
        monkeypatch.setenv("OMP_NUM_THREADS", nested)
        assert backend.threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    cores = backend.threads()
    for unusable in ("0", "-2", "two", "", ",2", "two,4", "1.5", "\u00b2", "9" * 5000, " "):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert backend.threads() == cores
    with backend.limit_threads(5):
        assert backend.threads() == 5
        with backend.limit_threads(1):
            assert backend.threads() == 1
        assert backend.threads() == 5


def test_limits_of_threads_that_overlap_do_not_meet() -> None:
    """A enters, B enters, A leaves, B leaves: each has its own limit all the while, and none is left behind."""
    before, steps = backend.threads(), [threading.Event() for _ in range(4)]
    seen: dict[str, list[int]] = {"a": [], "b": []}

    def a() -> None:
        with backend.limit_threads(5):
            steps[0].set()
            steps[1].wait(10)
            seen["a"].append(backend.threads())
        seen["a"].append(backend.threads())
        steps[2].set()

    def b() -> None:
        steps[0].wait(10)
        with backend.limit_threads(7):
            steps[1].set()
            steps[2].wait(10)
            seen["b"].append(backend.threads())
        seen["b"].append(backend.threads())

    both = [threading.Thread(target=run) for run in (a, b)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert seen == {"a": [5, before], "b": [7, before]}
    assert backend.threads() == before


def test_a_walk_whose_threads_cannot_be_started_is_done_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *args: object) -> None:
        raise RuntimeError("can't start new thread")

    blocks = cpu.sample_blocks(np.zeros((8, 1)), 1, 8)
    for name in ("submit", "_adjust_thread_count"):  # the second one has queued the work already
        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(ThreadPoolExecutor, name, refuse)
            patch.setattr(cpu, "pool", lambda pool=pool: pool)
            with backend.limit_threads(3):
                assert cpu.walk(lambda block, _: block.start, blocks, elements=10**6) == list(range(8))


def test_an_error_in_a_helping_thread_reaches_the_caller() -> None:
    caller, helped = threading.get_ident(), threading.Event()

    def task(block: slice, scratch: cpu.Scratch) -> None:
        if threading.get_ident() == caller:
            helped.wait(10)
            return
        helped.set()
        raise ValueError("a helper's error")

    with backend.limit_threads(2), pytest.raises(ValueError, match="a helper's error"):
        cpu.walk(task, [slice(0, 1), slice(1, 2), slice(2, 3)], elements=10**6)


def test_threads_of_a_walk_have_the_callers_settings() -> None:
    blocks = cpu.sample_blocks(np.zeros((8, 1)), 1, 8)
    with np.errstate(all="raise", under="ignore"), backend.inference(), backend.limit_threads(3):
        found = cpu.walk(lambda *_: (*np.geterr().values(), backend.is_inference()), blocks, elements=10**6)
        assert set(found) == {(*np.geterr().values(), True)}


def test_concurrent_walks_give_blas_its_threads_back() -> None:
    before = blas_threads()
    x = draw_array((64, 4, 500), 3)
    with backend.limit_threads(2), ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: channel_moments(x)[1], range(12)))
    assert blas_threads() == before
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


class Library:
    """What a BLAS library answers, and what it was told."""

    user_api = "blas"

    def __init__(self, threads: int | None) -> None:
        self.threads, self.told = threads, list[int]()

    def get_num_threads(self) -> int | None:
        return self.threads

    def set_num_threads(self, count: int) -> None:
        self.threads = count
        self.told.append(count)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Library]]:
    """BLAS libraries with 4 threads, with 1, of an unknown number; and one that is no BLAS."""
    found = {"many": Library(4), "one": Library(1), "unknown": Library(None), "openmp": Library(8)}
    found["openmp"].user_api = "openmp"  # type: ignore[misc]
    controller = SimpleNamespace(lib_controllers=list(found.values()))
    monkeypatch.setattr(threads, "_blas", lambda: controller)
    threads._settings.cache_clear()
    yield found
    threads._settings.cache_clear()


def test_only_a_blas_that_has_threads_is_told_and_gets_them_back(libraries: dict[str, Library]) -> None:
    for _ in range(2):
        with threads.one_blas_thread():
            assert [library.threads for library in libraries.values()] == [1, 1, None, 8]
            libraries["one"].threads = 3  # by somebody else, meanwhile
        assert libraries["many"].threads == 4
        libraries["one"].threads = 1
    assert [library.told for library in libraries.values()] == [[1, 4, 1, 4], [], [], []]


def test_the_last_of_overlapping_walks_gives_the_threads_back(libraries: dict[str, Library]) -> None:
    library, seen = libraries["many"], list[int | None]()
    with ThreadPoolExecutor(1) as other:  # enters second and leaves last
        with threads.one_blas_thread():
            other.submit(threads.one_blas_thread().__enter__).result()
        seen.append(library.threads)
        other.submit(threads.one_blas_thread().__exit__).result()
    assert (seen, library.threads, library.told) == ([1], 4, [1, 4])


def test_an_error_in_a_walk_gives_the_threads_back(libraries: dict[str, Library]) -> None:
    def task(block: slice, scratch: cpu.Scratch) -> None:
        raise ValueError(libraries["many"].threads)

    with pytest.raises(ValueError, match="1"):
        cpu.walk(task, [slice(0, 1)], elements=1)
    assert libraries["many"].threads == 4


def test_a_walk_without_products_leaves_blas_alone(libraries: dict[str, Library]) -> None:
    for workers in (1, 2):
        with backend.limit_threads(workers):
            seen = cpu.walk(lambda *_: libraries["many"].threads, [slice(0, 1)] * 2, elements=10**6, products=False)
        assert seen == [4, 4]
    assert cpu.walk(lambda *_: libraries["many"].threads, [slice(0, 1)], elements=1) == [1]


def test_a_limit_that_another_thread_holds_is_no_obstacle() -> None:
    """From 3.8 on threadpoolctl leaves OpenBLAS to the thread that set a limit first."""
    before = blas_threads()
    threads._blas.cache_clear()
    threads._settings.cache_clear()  # SciPy's own library may have been loaded after the first walk
    with threadpoolctl.threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(1) as other:
        if set(blas_threads()) != {3}:
            pytest.skip("this BLAS has one thread")
        found = other.submit(cpu.walk, lambda *_: blas_threads(), [slice(0, 1)], elements=1).result()
        assert found == [[1] * len(before)]
        assert set(blas_threads()) == {3}
    assert blas_threads() == before


def test_inside_a_walk_blas_has_one_thread() -> None:
    def task(block: slice, scratch: cpu.Scratch) -> set[int]:
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    threads._blas.cache_clear()
    threads._settings.cache_clear()  # SciPy's own library, loaded after the first walk, computes in none
    for workers in (1, 2):
        with backend.limit_threads(workers):
            for found in cpu.walk(task, [slice(0, 1), slice(1, 2)], elements=10**6):
                assert found <= {1}


@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_no_bit_of_a_convolution(stride: int) -> None:
    """Shapes at which BLAS sums differently with one thread and with two."""
    x = draw_array((20, 4, 61, 61), 4, dtype="float32")
    results = []
    for workers in (1, 2, 3):
        layer = Conv2d(4, 40 if stride == 2 else 8, 3, padding=1, stride=stride)
        with backend.limit_threads(workers):
            y = layer.forward(x)
            dx = layer.backward(draw_array(y.shape, 5, dtype="float32"))
        results.append((y, dx, layer.weight.grad, layer.bias.grad))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
