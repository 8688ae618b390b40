"""UAN for PyTorch, as ``uanref vectors`` writes it, against our layer and against the written vectors."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from support import requirements

import uanref
from uanref import UAN, from_torch, to_torch
from uanref.verify import vectors

PORT = Path(uanref.__file__).parent / "ports" / "uan_torch.py"
CASES = [case for case in vectors.cases() if case.norm is UAN]
TOLERANCE = {"float64": 1e-12, "float32": 3e-5}


@pytest.fixture(scope="module")
def torch():
    return requirements.require_torch()


@pytest.fixture(scope="module")
def port(torch, tmp_path_factory):
    """The module from the file that the command writes, imported from there."""
    folder = tmp_path_factory.mktemp("vectors")
    patch = pytest.MonkeyPatch()
    patch.setattr(vectors, "cases", lambda: CASES[:1])
    vectors.write(folder, force=True)
    patch.undo()
    spec = importlib.util.spec_from_file_location("uan_torch", folder / "uan_torch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UAN


def close(found, expected, dtype: str, what: object) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    if expected.dtype == bool:
        assert found == expected, what
        return
    distance, scale = np.abs(found - expected).max(), max(1.0, np.abs(expected).max())
    assert distance <= TOLERANCE[dtype] * scale, (what, distance)


def made(port, torch, options: dict, dtype: str, state: dict | None = None):
    module = port(**options, dtype=getattr(torch, dtype))
    if state is not None:
        found = module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        assert not found.missing_keys
        assert not found.unexpected_keys
    return module


def call(torch, module, x: np.ndarray, dy: np.ndarray, train: bool) -> dict[str, np.ndarray]:
    """Return output, gradients by autograd and the state after a call, by the vectors' names."""
    module.zero_grad()
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    y = module.train(train)(tensor)
    y.backward(torch.from_numpy(dy))
    found = {"y": y.detach().numpy(), "dx": tensor.grad.numpy()}
    found |= {f"grad/{name}": p.grad.numpy().copy() for name, p in module.named_parameters()}
    return found | {f"after/{name}": value.numpy().copy() for name, value in module.state_dict().items()}


def ours(layer: UAN, x: np.ndarray, dy: np.ndarray, train: bool) -> dict[str, np.ndarray]:
    found = {"y": layer.train(train).forward(x), "dx": layer.backward(dy)}
    found |= {f"grad/{name}": p.grad for name, p in layer.parameters().items()}
    return found | {f"after/{name}": value for name, value in layer.state_dict().items()}


def step(torch, module, lr: float) -> None:
    """Gradient descent by hand: importing PyTorch's optimizers takes seconds."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= lr * parameter.grad


# --- against the vectors --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("part", range(8))
def test_every_case_of_the_vectors(port, torch, part: int, dtype: str) -> None:
    assert len(CASES[part::8]) >= 16
    for case in CASES[part::8]:
        arrays = vectors.compute(case)
        state = {name[7:]: value for name, value in arrays.items() if name.startswith("before/")}
        module = made(port, torch, case.all_options(), dtype, state)
        found = call(torch, module, arrays["x"].astype(dtype), arrays["dy"].astype(dtype), case.mode == "train")
        expected = {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(dtype)}
        unchanged = {f"after/{name}": value for name, value in state.items()}
        assert found.keys() == expected.keys() | unchanged.keys(), case.name
        for name, value in (unchanged | expected).items():
            close(found[name], value, dtype, (case.name, name))
            if name.startswith("after/") and name not in expected:
                assert np.array_equal(found[name], value.astype(found[name].dtype)), (case.name, name)


# --- against our layer ----------------------------------------------------------------------------

SWITCHES = {
    "posterior": ("channel", "joint"),
    "statistics": ("batch", "learned"),
    "update": ("backprop", "em"),
    "start": ("paper", "data"),
    "prior": ("channel", "shared"),
    "inference": ("running", "mixture"),
}
COMBINED = list(itertools.product(*SWITCHES.values()))


@pytest.mark.parametrize("chosen", COMBINED, ids="-".join)
def test_several_steps_of_training_then_eval(port, torch, chosen) -> None:
    options = {"num_features": 3, "num_components": 4, "eps": 1e-3, "momentum": 0.3}
    options |= dict(zip(SWITCHES, chosen, strict=True))
    rng = np.random.default_rng(COMBINED.index(chosen))
    layer = UAN(**options, dtype="float64", rng=rng)
    module = made(port, torch, options, "float64", to_torch(layer))
    for train in (True, True, False, True, False):
        x, dy = (rng.standard_normal((4, 3, 2, 5)) for _ in range(2))
        one, other = ours(layer, 1.0 + 2.0 * x, dy, train), call(torch, module, 1.0 + 2.0 * x, dy, train)
        assert one.keys() == other.keys()
        for name, value in one.items():
            close(other[name], value, "float64", name)
        step(torch, module, 0.05)
        for parameter in layer.parameters().values():
            parameter.value = parameter.value - 0.05 * parameter.grad
    back = from_torch(module.state_dict(), UAN(**options, dtype="float64"))
    for name, value in back.state_dict().items():
        close(value, layer.state_dict()[name], "float64", name)


@pytest.mark.parametrize("update", ["backprop", "em"])
@pytest.mark.parametrize(("posterior", "prior"), [("channel", "channel"), ("channel", "shared"), ("joint", "channel")])
def test_a_dead_component_is_left_alone(port, torch, posterior: str, prior: str, update: str) -> None:
    options = {"num_features": 2, "num_components": 3, "posterior": posterior, "update": update, "momentum": 0.5}
    options["prior"] = prior
    rng = np.random.default_rng(3)
    layer = UAN(**options, dtype="float64", rng=rng)
    layer.mean.value[1] = 1e4  # no sample comes near: its posteriors sum to 0
    layer.mean.value[2] = 1.0
    module = made(port, torch, options, "float64", to_torch(layer))
    x, dy = (rng.standard_normal((16, 2)) for _ in range(2))
    one, other = ours(layer, x, dy, True), call(torch, module, x, dy, True)
    for name, value in one.items():
        assert np.isfinite(other[name]).all()
        close(other[name], value, "float64", name)
    assert np.array_equal(other["after/running_mean"][1], [0.0, 0.0])
    if update == "backprop":
        assert np.array_equal(other["grad/mean"][1], [0.0, 0.0])


@pytest.mark.parametrize("momentum", [0.0, 1.0])
@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_the_ends_of_momentum_and_eps(port, torch, momentum: float, eps: float) -> None:
    for update, statistics in itertools.product(SWITCHES["update"], SWITCHES["statistics"]):
        options = {"num_features": 2, "momentum": momentum, "eps": eps, "update": update, "statistics": statistics}
        rng = np.random.default_rng(1)
        layer = UAN(**options, dtype="float64", rng=rng)
        module = made(port, torch, options, "float64", to_torch(layer))
        x, dy = (rng.standard_normal((9, 2)) for _ in range(2))
        one, other = ours(layer, x, dy, True), call(torch, module, x, dy, True)
        for name, value in one.items():
            close(other[name], value, "float64", (name, update, statistics))


def test_far_weights_of_the_constraints(port, torch) -> None:
    """Where softplus and the softmax are all but linear or flat, which PyTorch's own softplus rounds away."""
    layer = UAN(2, 3, statistics="learned", dtype="float64")
    layer.raw_variance.value = np.array([[25.0, 19.0], [300.0, -5.0], [0.0, 31.0]])
    layer.prior_logits.value = np.array([[0.0, -90.0], [-60.0, 0.0], [5.0, 20.0]])
    module = made(port, torch, {"num_features": 2, "statistics": "learned"}, "float64", to_torch(layer))
    x, dy = (np.random.default_rng(1).standard_normal((9, 2)) for _ in range(2))
    one, other = ours(layer, 4.0 * x, dy, True), call(torch, module, 4.0 * x, dy, True)
    for name, value in one.items():
        close(other[name], value, "float64", name)


# --- the module by itself -------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["paper", "data"])
@pytest.mark.parametrize("update", ["backprop", "em"])
def test_its_own_start_is_ours(port, torch, start: str, update: str) -> None:
    module = port(4, 3, start=start, update=update, dtype=torch.float64)
    layer = UAN(4, 3, start=start, update=update, dtype="float64")
    assert {name for name, _ in module.named_parameters()} == set(layer.parameters())
    assert {name for name, _ in module.named_buffers()} == set(layer.buffers())
    from_torch(module.state_dict(), layer)
    mean, raw = module.mean.detach().numpy(), module.raw_variance.detach().numpy()
    if start == "paper":
        assert np.abs(mean).max() <= 1.0
        assert 0.001 <= raw.min() <= raw.max() <= 0.01
    else:
        assert np.allclose(mean, 0.3 * module.start_jitter.numpy())
        assert np.allclose(np.log1p(np.exp(raw)), 1.0)
        module(torch.randn(6, 4, dtype=torch.float64))
        assert bool(module.initialized)


def test_options_and_shapes_that_cannot_be(port, torch) -> None:
    for name in SWITCHES:
        with pytest.raises(ValueError, match=f"{name} must be"):
            port(2, **{name: "other"})
    with pytest.raises(ValueError, match="at least 2 samples"):
        port(2)(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="expects"):
        port(2)(torch.zeros(4, 3))
    assert "momentum=0.25" in repr(port(2, momentum=0.25))
    assert [name for name, _ in port(2, affine=False).named_parameters()] == ["prior_logits", "mean", "raw_variance"]


def test_it_trains_in_float32_inside_a_network(port, torch) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 6), port(6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    x = torch.randn(32, 8)
    labels = (x.mean(dim=1) > 0).long()
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        model.zero_grad()
        loss.backward()
        step(torch, model, 0.3)
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# --- the file -------------------------------------------------------------------------------------


def test_the_package_never_imports_it() -> None:
    assert not [name for name in sys.modules if name.startswith("uanref.ports")]
    for path in Path(uanref.__file__).parent.rglob("*.py"):
        assert "from uanref.ports" not in path.read_text("utf-8"), path
    tree = ast.parse(PORT.read_text("utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}
    assert {name.partition(".")[0] for name in names} == {"__future__", "torch"}  # it stands alone


def test_its_options_are_ours() -> None:
    """A new option of our layer must come here, too."""
    import inspect

    tree = ast.parse(PORT.read_text("utf-8"))
    (init,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in (*init.args.args, *init.args.kwonlyargs)]
    defaults = [ast.literal_eval(node) for node in (*init.args.defaults, *init.args.kw_defaults)]
    theirs = dict(zip(names[2:], defaults, strict=True))
    signature = inspect.signature(UAN).parameters.values()
    options = {each.name: each.default for each in signature if each.default is not each.empty}
    for name in ("dtype", "rng"):
        del options[name]
    assert options == {name: value for name, value in theirs.items() if name not in ("device", "dtype")}
