"""What only a process of its own shows: the cache on disk, the end of a process, the sanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import cupysim, requirements
from support.cupysim import environment

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
START = "from support import cupysim\ncp = cupysim.install()\n"
COUNTED = (
    START
    + """
with cupysim.counting() as counts:
    x = cp.arange(1000.0)
    assert (x * x).sum() == 332833500
print(counts.compilations)
"""
)


KERNELS = """
module = cp.RawModule(code='''
  extern "C" __global__ void plain(float* x, int by) { x[threadIdx.x + by] = 1; }
  extern "C" __global__ void shared(float* x, int by) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float v = s[63 - threadIdx.x + by];
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(0xffffffffu, v, o);
    x[threadIdx.x] = v;
  }
  extern "C" __global__ void dynamic(float* x, int by) {
    extern __shared__ float s[];
    s[threadIdx.x + by] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[63 - threadIdx.x];
  }
  extern "C" __global__ void after_barrier(float* x, int by) { __syncthreads(); x[threadIdx.x] = x[threadIdx.x + by]; }
''')
def launch(name, by):
    x = cp.arange(64, dtype="float32")
    module.get_function(name)((2,), (64,), (x, cp.int32(by)), shared_mem=256)
    return float(x.sum())
"""


@pytest.fixture(autouse=True)
def _can_run() -> None:
    if reason := cupysim.missing():
        requirements.skip(reason)


def start(code: str, environment: dict[str, str] | None = None, **variables: str) -> subprocess.Popen[str]:
    """Start a Python process that sees the tests' support package."""
    variables = {**(os.environ if environment is None else environment), "PYTHONPATH": str(TESTS), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run(code: str, environment: dict[str, str] | None = None, **variables: str) -> tuple[int, str, str]:
    return finish(start(code, environment, **variables))


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    first = run(COUNTED, CUPYSIM_CACHE=str(tmp_path))
    assert first[0] == 0, first[2]
    assert int(first[1]) >= 3
    assert run(COUNTED, CUPYSIM_CACHE=str(tmp_path))[:2] == (0, "0\n")
    # Other flags are other kernels.
    other = run(COUNTED, CUPYSIM_CACHE=str(tmp_path), CUPYSIM_CXXFLAGS="-DNOTHING")
    assert other[:2] == first[:2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp")]


def test_two_processes_build_the_same_kernels_at_once(tmp_path: Path) -> None:
    both = [start(COUNTED, CUPYSIM_CACHE=str(tmp_path)) for _ in range(2)]
    for code, _, err in map(finish, both):
        assert code == 0, err
    assert run(COUNTED, CUPYSIM_CACHE=str(tmp_path))[:2] == (0, "0\n")


@pytest.mark.parametrize(
    "ending",
    [
        "kept = [cp.arange(5.0), cp.cuda.Stream(), cp.cuda.Event()]",
        "import builtins; builtins.kept = cp.arange(5.0) + 1; builtins.cycle = [builtins.kept]; cycle.append(cycle)",
        "import atexit; kept = cp.arange(5.0); atexit.register(lambda: print(float(kept.sum())))",
        "from cupyx import empty_pinned; kept = empty_pinned((5,))",
        "import threading; t = threading.Thread(target=lambda: (cp.arange(5.0) * 2).sum()); t.start(); t.join()",
    ],
)
def test_a_process_ends_quietly(ending: str) -> None:
    code, _, err = run(START + ending)
    assert (code, err) == (0, "")


def test_an_unwritable_home_is_no_obstacle(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("CUPYSIM_CACHE", "XDG_CACHE_HOME")}
    code = "from support.cupysim import environment; print(environment.cache_folder())"
    out = run(code, variables, HOME=str(tmp_path / "absent"), TMPDIR=str(tmp_path))[1].strip()
    assert out == str(tmp_path / f"cupysim-{os.getuid()}")
    (tmp_path / ".cache").mkdir()
    out = run(code, variables, HOME=str(tmp_path))[1].strip()
    assert out == str(tmp_path / ".cache" / f"cupysim-{os.getuid()}")


def test_the_portable_switch_between_threads() -> None:
    """Processors without a switch of their own use the system's; its kernels give the same."""
    code = START + KERNELS + "print(launch('shared', 0), launch('dynamic', 0), float(cp.cumsum(cp.arange(700.0))[-1]))"
    expected = run(code)
    assert expected[0] == 0, expected[2]
    assert run(code, CUPYSIM_CXXFLAGS="-DCUPYSIM_UCONTEXT") == expected


# --- the sanitizer --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sanitized() -> dict[str, str]:
    """An environment with the sanitizer, where the compiler has one."""
    if reason := cupysim.missing():
        requirements.skip(reason)
    variables = cupysim.sanitized_environment()
    if not Path(variables["LD_PRELOAD"]).is_absolute():
        requirements.skip("the compiler has no address sanitizer (libasan)")
    return variables


CORRECT = """
for name in ("plain", "shared", "dynamic", "after_barrier"):
    launch(name, 0)
x = cp.arange(12.0).reshape(3, 4)
print(float((x @ x.T).sum()), float(x.var(axis=0).sum()), float(cp.cumsum(x)[-1]))
source = 'extern "C" __global__ void f() { if (threadIdx.x) __syncwarp(); else __syncthreads(); }'
for _ in range(2):
    try:
        cp.RawKernel(source, "f")((1,), (64,), ())
    except cupysim.KernelFault:
        print("fault")
launch("shared", 0)
"""


def test_correct_kernels_pass_the_sanitizer(sanitized: dict[str, str]) -> None:
    code, out, err = run(START + KERNELS + CORRECT, sanitized)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["1134.0 42.666666666666664 66.0", "fault", "fault"]


@pytest.mark.parametrize(
    ("name", "by"),
    [("plain", 1), ("plain", -1), ("shared", 1), ("shared", -1), ("dynamic", 1), ("after_barrier", 1)],
)
def test_one_element_beyond_an_array_is_found(sanitized: dict[str, str], name: str, by: int) -> None:
    code, out, err = run(START + KERNELS + f"launch({name!r}, {by})\nprint('not found')", sanitized)
    assert code != 0
    assert "AddressSanitizer" in err
    assert f"in {name} " in err  # the kernel is named in the trace
    assert "not found" not in out


def test_sanitized_kernels_are_told_by_their_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPYSIM_CXXFLAGS", "-g -fsanitize=undefined,address")
    assert environment.is_sanitized()
    monkeypatch.setenv("CUPYSIM_CXXFLAGS", "-O2")
    assert not environment.is_sanitized()
