"""Kernels that users write: shared memory, barriers, shuffles, votes, atomics; and what is undefined on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import cupysim


@pytest.fixture
def cp(emulated: object) -> Any:
    import cupy

    return cupy


@pytest.fixture(params=[False, True], ids=["forward", "reversed"])
def order(request: pytest.FixtureRequest) -> Any:
    """Run the test in both orders of threads."""
    if request.param:
        with cupysim.threads_reversed():
            yield
    else:
        yield


def kernel(cp: Any, body: str, parameters: str = "float* x, float* out") -> Any:
    return cp.RawKernel(f'extern "C" __global__ void probe({parameters}) {{ {body} }}', "probe")


def ramp(n: int) -> np.ndarray:
    return np.arange(n, dtype="float32")


# --- CuPy's own kinds of kernels ------------------------------------------------------------------


def test_elementwise_kernel(cp: Any) -> None:
    scaled = cp.ElementwiseKernel("T x, float64 scale", "T y, int64 i_out", "y = x * scale; i_out = i;", "scaled")
    y, i = scaled(cp.asarray(ramp(300)), 0.5)
    np.testing.assert_array_equal(y.get(), ramp(300) / 2)
    np.testing.assert_array_equal(i.get(), np.arange(300))


def test_reduction_kernel(cp: Any) -> None:
    norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "probe_norm")
    x = np.random.default_rng(0).standard_normal((5, 300))
    np.testing.assert_allclose(norm(cp.asarray(x), axis=1).get(), np.sqrt((x * x).sum(1)), rtol=1e-13)


def test_templates_are_instances_by_expression(cp: Any) -> None:
    module = cp.RawModule(
        code="template <class T, int n> __global__ void fill(T* x) { x[threadIdx.x] = T(n) / 2; }",
        name_expressions=["fill<float, 3>", "fill<int, 5>"],
    )
    a, b = cp.zeros(4, "float32"), cp.zeros(4, "int32")
    module.get_function("fill<float, 3>")((1,), (4,), (a,))
    module.get_function("fill<int, 5>")((1,), (4,), (b,))
    assert a.get().tolist() == [1.5] * 4
    assert b.get().tolist() == [2] * 4


def test_all_kernels_with_c_linkage_are_found(cp: Any) -> None:
    module = cp.RawModule(
        code="""
        // extern "C" __global__ void commented(float* x) {}
        extern "C" __global__ __launch_bounds__(64, (2)) void first(float* x) { x[0] = 1; }
        extern "C" {
          __device__ float two() { return 2; }
          __global__ void __launch_bounds__(64) second(float* x) { if (x) { x[1] = two(); } }
        }
        __global__ void mangled(float* x) { x[2] = 3; }
        """
    )
    x = cp.zeros(3, "float32")
    for name in ("first", "second"):
        module.get_function(name)((1,), (1,), (x,))
    assert x.get().tolist() == [1, 2, 0]
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="NOT_FOUND"):
        module.get_function("mangled")


def test_macros_and_global_variables(cp: Any) -> None:
    module = cp.RawModule(
        code="""
        __constant__ float table[2];
        __device__ int calls;
        extern "C" __global__ void probe(float* x) {
          x[threadIdx.x] = table[threadIdx.x] * SCALE;
          atomicAdd(&calls, 1);
        }
        """,
        options=("-DSCALE=3",),
    )
    table = cp.ndarray(2, "float32", module.get_global("table"))
    table[...] = cp.asarray([1, 2], "float32")
    x = cp.zeros(2, "float32")
    module.get_function("probe")((4,), (2,), (x,))
    assert x.get().tolist() == [3, 6]
    assert cp.ndarray(1, "int32", module.get_global("calls")).item() == 8


def test_a_source_that_does_not_compile_names_the_line(cp: Any) -> None:
    with pytest.raises(cp.cuda.compiler.CompileException, match=r"kernel\.cu:1.*\n?.*no_such_function"):
        kernel(cp, "no_such_function();")((1,), (1,), (cp.zeros(1), cp.zeros(1)))


# --- threads together -----------------------------------------------------------------------------


@pytest.mark.usefixtures("order")
def test_shared_memory_and_barriers(cp: Any) -> None:
    body = """
      __shared__ float s[96];
      unsigned t = threadIdx.x, n = blockDim.x;
      s[t] = x[blockIdx.x * n + t];
      __syncthreads();
      float other = s[n - 1 - t];
      __syncthreads();
      s[t] = other + 1;
      __syncthreads();
      out[blockIdx.x * n + t] = s[(t + 1) % n];
    """
    out = cp.zeros(3 * 96, "float32")
    kernel(cp, body)((3,), (96,), (cp.asarray(ramp(3 * 96)), out))
    expected = np.roll(ramp(3 * 96).reshape(3, 96)[:, ::-1] + 1, -1, axis=1).ravel()
    np.testing.assert_array_equal(out.get(), expected)


@pytest.mark.usefixtures("order")
def test_dynamic_shared_memory(cp: Any) -> None:
    body = """
      extern __shared__ float s[];
      s[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      out[threadIdx.x] = s[7 - threadIdx.x];
    """
    out = cp.zeros(8, "float32")
    kernel(cp, body)((1,), (8,), (cp.asarray(ramp(8)), out), shared_mem=32)
    np.testing.assert_array_equal(out.get(), ramp(8)[::-1])


def test_shared_memory_begins_as_nonsense_in_every_block(cp: Any) -> None:
    body = """
      __shared__ float s[2]; extern __shared__ float d[];
      out[2 * blockIdx.x] = s[0]; out[2 * blockIdx.x + 1] = d[0];
      s[0] = 1; d[0] = 1;
    """
    out = cp.zeros(6, "float32")
    kernel(cp, body)((3,), (1,), (out, out), shared_mem=4)
    assert (out.get().view("uint8") == 0xCC).all()


def shuffled(values: np.ndarray, name: str, by: int, width: int) -> np.ndarray:
    """What the programming guide says that lane l of each segment gets."""
    lanes, got = np.arange(32), values.copy()
    for warp in range(0, len(values), 32):
        for lane in lanes:
            first = lane // width * width
            source = {
                "": first + by % width,
                "_up": lane - by if lane - by >= first else lane,
                "_down": lane + by if lane + by < first + width else lane,
                "_xor": lane ^ by if lane ^ by < first + width else lane,
            }[name]
            got[warp + lane] = values[warp + source]
    return got


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("name", ["", "_up", "_down", "_xor"])
def test_shuffles_within_their_warp(cp: Any, name: str) -> None:
    values, cases = np.random.default_rng(0).standard_normal(96), [(0, 32), (1, 32), (5, 8), (3, 4), (16, 32), (9, 16)]
    source = "".join(
        f"out[{k} * 96 + t] = __shfl{name}_sync(0xffffffffu, x[t], {by}, {width});"
        for k, (by, width) in enumerate(cases)
    )
    out = cp.zeros((len(cases), 96))
    kernel(cp, "unsigned t = threadIdx.x;" + source, "double* x, double* out")((1,), (96,), (cp.asarray(values), out))
    expected = [shuffled(values, name, by, width) for by, width in cases]
    np.testing.assert_array_equal(out.get(), expected)


@pytest.mark.usefixtures("order")
def test_a_sum_by_shuffles_in_two_dimensions_of_threads(cp: Any) -> None:
    body = """
      float v = x[threadIdx.y * blockDim.x + threadIdx.x];
      for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
      out[threadIdx.y * blockDim.x + threadIdx.x] = v;
    """
    out = cp.zeros(64, "float32")
    kernel(cp, body)((1,), (8, 8), (cp.asarray(ramp(64)), out))
    np.testing.assert_array_equal(out.get(), np.repeat(ramp(64).reshape(2, 32).sum(1), 32))


@pytest.mark.usefixtures("order")
def test_votes_and_parts_of_a_warp(cp: Any) -> None:
    body = """
      unsigned t = threadIdx.x;
      out[t] = __ballot_sync(0xffffffffu, x[t] > 20);
      if (t < 16) out[32 + t] = 10 * __any_sync(0xffffu, t == 3) + __all_sync(0xffffu, t < 9);
      else out[32 + t] = 10 * __any_sync(0xffff0000u, t == 3) + __all_sync(0xffff0000u, t > 9);
      __syncwarp();
    """
    out = cp.zeros(64, "uint32")
    kernel(cp, body, "float* x, unsigned* out")((1,), (32,), (cp.asarray(ramp(32)), out))
    assert (out.get()[:32] == sum(1 << lane for lane in range(21, 32))).all()
    assert out.get()[32:].tolist() == [10] * 16 + [1] * 16


@pytest.mark.usefixtures("order")
def test_a_partial_warp_and_lanes_that_have_left(cp: Any) -> None:
    body = """
      if (threadIdx.x >= 10) return;  // the others name these lanes, too, and do not wait for them
      out[threadIdx.x] = __shfl_up_sync(0xffffffffu, x[threadIdx.x], 1);
    """
    out = cp.zeros(20, "float32")
    kernel(cp, body)((1,), (20,), (cp.asarray(ramp(20)), out))
    np.testing.assert_array_equal(out.get(), [0, 0, 1, 2, 3, 4, 5, 6, 7, 8] + [0] * 10)


@pytest.mark.usefixtures("order")
def test_atomics(cp: Any) -> None:
    body = """
      atomicAdd(&out[0], x[threadIdx.x]); atomicMax((int*)&out[1], (int)threadIdx.x); atomicExch(&out[2], 5.0f);
      atomicCAS((int*)&out[3], 0, 7); atomicAdd((unsigned long long*)&out[4], 1ull);
    """
    out = cp.zeros(6, "float32")
    kernel(cp, body)((2,), (50,), (cp.asarray(ramp(50)), out))
    got = out.get()
    assert got[0] == 2 * ramp(50).sum()
    assert got[2] == 5
    assert got[[1, 3]].view("int32").tolist() == [49, 7]
    assert got[4:].view("uint64").tolist() == [100]


@pytest.mark.usefixtures("order")
def test_a_barrier_does_not_wait_for_threads_that_have_left(cp: Any) -> None:
    body = """
      __shared__ float s[64];
      if (threadIdx.x >= 40) return;
      s[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      out[threadIdx.x] = s[39 - threadIdx.x];
    """
    out = cp.zeros(64, "float32")
    kernel(cp, body)((1,), (64,), (cp.asarray(ramp(64)), out))
    np.testing.assert_array_equal(out.get(), [*ramp(40)[::-1], *[0] * 24])


# --- the order of threads -------------------------------------------------------------------------


def test_reversal_shows_what_depends_on_the_order(cp: Any) -> None:
    last_block = kernel(cp, "out[0] = blockIdx.x * 100 + threadIdx.x;")
    with_barrier = kernel(cp, "out[0] = blockIdx.x * 100 + threadIdx.x; __syncthreads();")
    x = cp.zeros(1, "float32")
    for wrong in (last_block, with_barrier):
        wrong((3,), (32,), (x, x))
        assert x.item() == 231
        with cupysim.threads_reversed():
            wrong((3,), (32,), (x, x))
        assert x.item() == 0


def test_a_missing_barrier_is_seen_in_one_of_the_orders(cp: Any) -> None:
    body = "__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; {} out[threadIdx.x] = s[(threadIdx.x + 1) % 64];"
    results = {}
    for barrier in ("", "__syncthreads();"):
        for backwards in (False, True):
            out = cp.zeros(64, "float32")
            run = kernel(cp, body.replace("{}", barrier))
            if backwards:
                with cupysim.threads_reversed():
                    run((1,), (64,), (cp.asarray(ramp(64)), out))
            else:
                run((1,), (64,), (cp.asarray(ramp(64)), out))
            results[barrier, backwards] = out.get().tolist()
    assert results["__syncthreads();", False] == results["__syncthreads();", True] == np.roll(ramp(64), -1).tolist()
    assert results["", False] != results["", True]


def test_cupys_own_reductions_do_not_depend_on_the_order(cp: Any) -> None:
    x = cp.asarray(np.random.default_rng(0).standard_normal((7, 333), "float32"))
    forward = [x.sum(axis=axis).get() for axis in (0, 1, None)]
    with cupysim.threads_reversed():
        backward = [x.sum(axis=axis).get() for axis in (0, 1, None)]
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(a, b)


# --- what is undefined on a device ----------------------------------------------------------------

FAULTS = {
    "two barriers": (
        "if (threadIdx.x < 9) __syncthreads();\nelse __syncthreads();",
        r"threads 0 and 9 .* lines 1 and 2",
    ),
    "a lane that never comes": (
        "if (threadIdx.x % 32 < 31) __syncwarp(); else __syncthreads();",
        r"waits for lanes of its warp \(mask ffffffff\)",
    ),
    "other masks": (
        "__shfl_sync(threadIdx.x % 2 ? 0xffffffffu : 0x55555555u, 1, 0); __syncthreads();",
        "waits for lanes of its warp",
    ),
    "not in its mask": ("__shfl_sync(0x7fffffffu, 1, 0);", "thread 31 calls .* leaves itself out"),
    "other functions": (
        "if (threadIdx.x % 2) __any_sync(0xffffffffu, 1); else __all_sync(0xffffffffu, 1);",
        "lanes 0 and 1 .* different functions",
    ),
    "a deep stack": (
        "volatile char deep[60000]; for (int i = 0; i < 60000; ++i) deep[i] = 1; __syncthreads();",
        "bytes of stack",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_undefined_on_a_device_is_a_fault(cp: Any, fault: str) -> None:
    body, message = FAULTS[fault]
    x = cp.zeros(1, "float32")
    with pytest.raises(cupysim.KernelFault, match=f"kernel probe: .*{message}"):
        kernel(cp, body)((2,), (64,), (x, x))
    # The emulator goes on.
    kernel(cp, "__syncthreads(); out[0] = 3;")((1,), (64,), (x, x))
    assert x.item() == 3


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [((1,), (1025,), 0), ((1,), (1, 1, 65), 0), ((1,), (32, 64), 0), ((1, 65536), (1,), 0), ((1,), (1,), 49153)],
)
def test_a_launch_that_no_device_accepts(cp: Any, grid: Any, block: Any, shared: int) -> None:
    x = cp.zeros(1, "float32")
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        kernel(cp, "out[0] = 1;")(grid, block, (x, x), shared_mem=shared)


def test_more_shared_memory_can_be_asked_for(cp: Any) -> None:
    run = kernel(cp, "extern __shared__ float s[]; s[20000] = 2; out[0] = s[20000];")
    run.max_dynamic_shared_size_bytes = 96 << 10
    x = cp.zeros(1, "float32")
    run((1,), (1,), (x, x), shared_mem=96 << 10)
    assert x.item() == 2


# --- numbers --------------------------------------------------------------------------------------


def test_intrinsics(cp: Any) -> None:
    body = """
      out[0] = __popc(255) + __clz(1) * 100 + __ffs(8) * 10000;
      out[1] = __brev(1u) >> 31; out[2] = __umulhi(1u << 31, 6u); out[3] = __float_as_int(1.0f) >> 23;
      out[4] = max(2, 7u) + min(1.5, 2) + fmaxf(NAN, 3.0f) + max(NAN, 4.0f);
      out[5] = rsqrtf(4.0f) + __fdividef(1.0f, 4.0f) + __saturatef(7.0f) + __frcp_rn(8.0f);
      out[6] = __funnelshift_l(1u << 31, 1u, 1); out[7] = __double2ll_rn(2.5) + __float2int_rn(3.5f);
      float4 v = make_float4(1, 2, 3, 4); out[8] = v.x + v.w + sizeof(v) + alignof(float4) + alignof(double2);
      out[9] = __ldg(x + 3) + warpSize;
    """
    out = cp.zeros(10, "float64")
    kernel(cp, body, "float* x, double* out")((1,), (1,), (cp.asarray(ramp(4)), out))
    expected = [8 + 3100 + 40000, 1, 3, 127, 7 + 1.5 + 3 + 4, 0.5 + 0.25 + 1 + 0.125, 3, 2 + 4, 5 + 16 + 16 + 16, 35]
    np.testing.assert_array_equal(out.get(), expected)


def test_products_and_sums_round_twice(cp: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1000)).astype("float32")
    out = cp.zeros(1000, "float32")
    run = kernel(cp, "unsigned t = threadIdx.x; out[t] = x[t] * x[1000 + t] + x[2000 + t];")
    run((1,), (1000,), (cp.asarray(x), out))
    np.testing.assert_array_equal(out.get(), x[0] * x[1] + x[2])
