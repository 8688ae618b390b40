"""The CUDA sources compile for the oldest and the newest cards that CuPy serves, and fit into their registers."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from support import nvrtc
from support.requirements import require_nvrtc

from uanref import kernels
from uanref.kernels.cuda import launch

ROOT = Path(__file__).parents[2]
ARCHITECTURES = (75, 90)  # Turing, Hopper
SHARED_BYTES = 48 * 1024  # of a block, without asking for more
REGISTERS = 64 * 1024  # of a multiprocessor, hence the most that one block can have


def sources() -> list[str]:
    """Return the names of the package's CUDA sources."""
    return sorted(path.name.removesuffix(".cu") for path in _folder().glob("*.cu"))


def variants(file: str) -> tuple[dict[str, int], ...]:
    """Return the constants that a source is compiled with: the ``VARIANTS`` of the module that launches it, or none."""
    (name,) = launchers(file)
    return getattr(importlib.import_module(f"uanref.kernels.cuda.{name}"), "VARIANTS", ({},))


def launchers(file: str) -> list[str]:
    """Return the modules that ask for kernels of ``<file>.cu``."""
    return [path.stem for path in sorted(_folder().glob("*.py")) if f'kernel("{file}"' in path.read_text("utf-8")]


def _folder() -> Path:
    return Path(str(resources.files("uanref.kernels.cuda")))


def _combinations() -> list[object]:
    """Every source with each of its constants, types and cards; one of each source is no slow test."""
    found = []
    for file in sources():
        for i, (constants, char, arch) in enumerate(itertools.product(variants(file), "fd", ARCHITECTURES)):
            text = "".join(f"-{name}{value}" for name, value in constants.items())
            marks = [pytest.mark.slow] if i else []
            found.append(pytest.param(file, constants, char, arch, id=f"{file}{text}-{char}-sm_{arch}", marks=marks))
    return found


@pytest.mark.parametrize(("file", "constants", "char", "arch"), _combinations())
def test_a_source_compiles_without_a_word_and_lives_in_registers(file, constants, char, arch):
    require_nvrtc()
    source = launch.source(file)
    compiled = nvrtc.compile_for(arch, source, launch.options(char, **constants))
    assert compiled.ok, "\n".join(compiled.complaints)
    assert compiled.complaints == [], "\n".join(compiled.complaints)
    # Every kernel that the text declares is there, under the name by which it is looked up.
    assert compiled.kernels.keys() == set(re.findall(r"__global__[^(]*?(\w+)\s*\(", _without_bounds(source)))
    for name, usage in compiled.kernels.items():
        assert usage.spills == 0, f"{name}: {usage}"
        assert usage.stack == 0, f"{name}: {usage}"
        assert usage.shared < SHARED_BYTES, f"{name}: {usage}"
        assert usage.registers * constants.get("THREADS", launch.THREADS) <= REGISTERS, f"{name}: {usage}"


def _without_bounds(source: str) -> str:
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    return re.sub(r"__launch_bounds__\s*\([^)]*\)", "", code)


@pytest.mark.parametrize("file", sources())
def test_a_source_is_launched_by_one_module_beside_it(file):
    assert len(launchers(file)) == 1
    assert all(isinstance(value, int) for constants in variants(file) for value in constants.values())


def test_a_missing_constant_is_no_success():
    require_nvrtc()
    source = 'extern "C" __global__ void fill(scalar* y) { for (int k = 0; k < K; ++k) y[k] = k; }'
    prelude = (_folder() / "common.cuh").read_text(encoding="utf-8")
    assert not nvrtc.compile_for(75, f"{prelude}\n{source}", launch.options("f")).ok
    assert nvrtc.compile_for(75, f"{prelude}\n{source}", launch.options("f", K=2)).ok


# --- the check itself: what must not pass -----------------------------------------------------------


def compiled(body: str, arch: int = 75) -> nvrtc.Compilation:
    require_nvrtc()
    return nvrtc.compile_for(arch, f'extern "C" __global__ void probe(float* x, int n) {{ {body} }}', ("-std=c++17",))


def test_the_report_of_a_plain_kernel_is_read():
    found = compiled("x[threadIdx.x] += 1;")
    assert found.ok
    assert found.complaints == []
    usage = found.kernels["probe"]
    assert 0 < usage.registers < 32
    assert (usage.stack, usage.spills, usage.shared) == (0, 0, 0)


def test_shared_memory_is_counted():
    body = "__shared__ float a[100]; a[threadIdx.x] = x[n]; __syncthreads(); x[n] = a[n];"
    assert compiled(body).kernels["probe"].shared == 400


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_array_with_running_index_has_a_stack_frame(arch):
    body = "float a[64]; for (int i = 0; i < n; ++i) a[(7 * i) % 64] = x[i]; x[n] = a[n % 64];"
    assert compiled(body, arch).kernels["probe"].stack >= 256


def test_a_function_that_is_not_inlined_counts():
    require_nvrtc()
    source = (
        "__device__ __noinline__ float f(float* x, int n) { float a[64]; for (int i = 0; i < 64; ++i) a[i] = x[i] + i; "
        'return a[n]; } extern "C" __global__ void probe(float* x, int n) { x[n] = f(x, n); }'
    )
    assert nvrtc.compile_for(75, source, ()).kernels["probe"].stack >= 256


def test_registers_that_do_not_suffice_are_spills():
    require_nvrtc()
    values = range(300)  # all of them alive at once: loaded before any is stored
    loads = "".join(f"float a{i} = y[{i}];" for i in values)
    stores = "".join(f"x[{(7 * i) % 300}] = a{i} * n;" for i in values)
    source = f'extern "C" __global__ void probe(float* x, const float* y, int n) {{ {loads} {stores} }}'
    found = nvrtc.compile_for(75, source, ("--maxrregcount=32",))
    assert found.ok
    assert found.kernels["probe"].spills > 0


def test_warnings_and_errors_are_complaints():
    assert any("never referenced" in line for line in compiled("int unused;").complaints)
    wrong = compiled("x[0] = undefined;")
    assert not wrong.ok
    assert any("undefined" in line for line in wrong.complaints)
    assert wrong.kernels == {}


# --- what a user installs ---------------------------------------------------------------------------


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.cu*"))}


def test_the_installed_package_has_every_source():
    # On CI the package under test is a wheel's, so that this compares what was packed with what lies here.
    here = _texts(ROOT / "uanref" / "kernels" / "cuda")
    assert "common.cuh" in here
    assert _texts(_folder()) == here


@pytest.mark.slow
def test_a_built_package_has_every_source(tmp_path):
    pytest.importorskip("setuptools", reason="setuptools, which builds the package, is not installed")
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "uanref", project / "uanref", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_py", "--build-lib", "built"]
    subprocess.run(build, cwd=project, check=True, capture_output=True, text=True)
    place = Path("uanref") / "kernels" / "cuda"
    assert _texts(project / "built" / place) == _texts(ROOT / place)


def test_the_kernels_modules_need_no_cupy():
    found = pkgutil.walk_packages(kernels.__path__, "uanref.kernels.")
    names = [info.name for info in found]
    assert {f"uanref.kernels.cuda.{launcher}" for file in sources() for launcher in launchers(file)} < set(names)
    code = "import importlib, sys; sys.modules['cupy'] = None\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code, "uanref.kernels", *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
