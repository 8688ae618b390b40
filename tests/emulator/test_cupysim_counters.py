"""Counters: launches with their shapes, copies each way, waits, compilations."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from support import cupysim


@pytest.fixture
def cp(emulated: object) -> Any:
    import cupy

    return cupy


def test_launches_have_names_and_shapes(cp: Any) -> None:
    x = cp.zeros(300, "float32")
    run = cp.RawKernel('extern "C" __global__ void probe(float* x) { x[0] = gridDim.y; }', "probe")
    with cupysim.counting() as counts:
        _ = x + 1
        run((2, 3), (4, 5, 6), (x,), shared_mem=16)
    assert [launch.name for launch in counts.launches] == ["cupy_add__float32_float_float32", "probe"]
    assert counts.launches[0].blocks * counts.launches[0].threads >= 300
    assert counts.launches[1] == cupysim.Launch("probe", (2, 3, 1), (4, 5, 6), 16)
    assert (counts.launches[1].blocks, counts.launches[1].threads) == (6, 120)
    assert counts.to_device == counts.to_host == counts.synchronizations == 0


def test_copies_have_a_direction_and_a_size(cp: Any) -> None:
    host, x = np.zeros(100, "float32"), cp.zeros((2, 50), "float64")
    with cupysim.counting() as up:
        cp.asarray(host)
    assert (up.to_device, up.to_device_bytes, up.to_host, up.on_device) == (1, 400, 0, 0)
    with cupysim.counting() as down:
        x.get()
    assert (down.to_host, down.to_host_bytes, down.to_device, down.synchronizations) == (1, 800, 0, 1)
    with cupysim.counting() as within:
        cp.zeros_like(x).data.copy_from_device(x.data, x.nbytes)
    assert (within.on_device, within.on_device_bytes, within.to_host, within.to_device) == (1, 800, 0, 0)
    with cupysim.counting() as filled:
        cp.zeros(10)
    assert (filled.fills, filled.launches, filled.to_device) == (1, [], 0)


@pytest.mark.parametrize(
    "read", ["float(x.sum())", "bool(x[0] > 0)", "x[1].item()", "str(x)", "x[x > 0]", "cp.nonzero(x)", "x.max().get()"]
)
def test_reading_a_value_is_a_copy_and_a_wait(cp: Any, read: str) -> None:
    x = cp.arange(5.0)
    with cupysim.counting() as counts:
        eval(read, {"x": x, "cp": cp})
    assert counts.to_host >= 1
    assert counts.synchronizations >= 1


def test_waits_are_counted(cp: Any) -> None:
    stream, event = cp.cuda.Stream(), cp.cuda.Event()
    with cupysim.counting() as counts:
        cp.cuda.Device().synchronize()
        stream.synchronize()
        event.record(stream)
        event.synchronize()
        assert stream.done
        assert event.done
    assert counts.synchronizations == 3


def test_products_are_calls_of_a_library(cp: Any) -> None:
    x = cp.ones((3, 4, 4), "float32")
    with cupysim.counting() as counts:
        _ = x[0] @ x[1]
        _ = x @ x
    assert counts.library_calls == ["gemmEx", "gemmStridedBatchedEx"]


def test_blocks_nest_and_end(cp: Any) -> None:
    x = cp.zeros(4)
    _ = x + 1
    with cupysim.counting() as outer:
        _ = x + 1
        with cupysim.counting() as inner:
            _ = x + 1
        assert len(inner.launches) == 1
    _ = x + 1
    assert (len(outer.launches), len(inner.launches)) == (2, 1)
    with pytest.raises(ZeroDivisionError), cupysim.counting() as failed:
        raise ZeroDivisionError
    _ = x + 1
    assert failed.launches == []


def test_a_source_is_compiled_once(cp: Any) -> None:
    code = f'extern "C" __global__ void probe(float* x) {{ x[0] = 1; }} // {uuid.uuid4()}'
    counted = []
    for _ in range(2):
        with cupysim.counting() as counts:
            cp.RawModule(code=code).get_function("probe")((1,), (1,), (cp.zeros(1, "float32"),))
        counted.append(counts.compilations)
    assert counted == [1, 0]


def test_events_measure_time(cp: Any) -> None:
    start, end = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    _ = cp.arange(1000.0).sum()
    end.record()
    end.synchronize()
    assert cp.cuda.get_elapsed_time(start, end) > 0


def test_work_on_a_stream(cp: Any) -> None:
    first, second = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream()
    with first:
        x = cp.arange(5.0) + 1
    second.wait_event(first.record())
    with second:
        y = x * 2
    assert y.get().tolist() == [2, 4, 6, 8, 10]
