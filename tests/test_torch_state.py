"""States from PyTorch and back: names, what is refused, and that real modules and ours then compute the same."""

from __future__ import annotations

import sys
from collections import OrderedDict
from subprocess import run

import numpy as np
import pytest
from support import requirements

import uanref as un
from uanref import backend

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def state(dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return what ``Sequential(Linear(3, 4), BatchNorm1d(4))`` of PyTorch has as its state."""
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (4, 3), "0.bias": (4,)} | {f"1.{name}": (4,) for name in ("weight", "bias", "running_mean")}
    made = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    made["1.running_var"] = rng.uniform(0.5, 2.0, 4).astype(dtype)
    return made | {"1.num_batches_tracked": np.array(7)}


def network(dtype: str = "float32") -> un.Sequential:
    return un.Sequential(un.Linear(3, 4, dtype=dtype), un.BatchNorm(4, dtype=dtype))


def refused(error: type[Exception], given: object, model: un.Layer | None = None, **rename: object) -> str:
    """Return the sentence of a refusal, after checking that it is one and that the model was left alone."""
    model = network() if model is None else model
    before = model.state_dict()
    with pytest.raises(error) as caught:
        un.from_torch(given, model, **rename)  # type: ignore[arg-type]
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    sentence = str(caught.value.args[0])
    assert "\n" not in sentence
    return sentence


# --- names, with arrays alone ---------------------------------------------------------------------


def test_a_norm_has_our_names_and_the_counter_is_dropped() -> None:
    given, model = state(), network()
    assert un.from_torch(given, model) is model
    assert np.array_equal(model.parameters()["1.gamma"].value, given["1.weight"])
    assert np.array_equal(model.parameters()["1.beta"].value, given["1.bias"])
    assert np.array_equal(model.buffers()["1.running_var"], given["1.running_var"])
    back = un.to_torch(model)
    assert list(back) == [name for name in given if not name.endswith("tracked")]
    assert all(np.array_equal(back[name], given[name]) for name in back)
    back["0.weight"][:] = 0.0  # a copy, as what was loaded is
    given["0.bias"][:] = 0.0
    assert np.abs(model.parameters()["0.weight"].value).min() > 0
    assert np.abs(model.parameters()["0.bias"].value).min() > 0


@pytest.mark.parametrize("update", ["backprop", "em"])
def test_what_torch_lacks_keeps_its_names(update: str) -> None:
    one, other = (un.UAN(2, update=update, start="data", rng=np.random.default_rng(seed)) for seed in (1, 2))
    one.forward(np.random.default_rng(0).standard_normal((8, 2)).astype("float32"))
    given = un.to_torch(one)
    assert given.keys() == one.state_dict().keys()
    assert given["initialized"].dtype == bool
    un.from_torch(given, other)
    assert other.initialized is True
    assert all(np.array_equal(value, one.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("norm", [un.GroupNorm(2, 4), un.LayerNorm(4), un.InstanceNorm(4), un.BatchNorm(4)])
def test_every_norm_that_torch_has_takes_weight_and_bias(norm: un.Layer) -> None:
    assert list(un.to_torch(norm))[:2] == ["weight", "bias"]
    model = un.Sequential(un.Residual(norm))
    assert list(un.to_torch(model))[:2] == ["0.body.weight", "0.body.bias"]


@pytest.mark.parametrize("norm", [un.ModeNorm(4), un.MixtureNorm(4), un.UANPublic(4, 2), un.UAN(4)])
def test_every_other_norm_keeps_its_names(norm: un.Layer) -> None:
    assert un.to_torch(norm).keys() == norm.state_dict().keys()


def test_rename_maps_the_longest_prefix() -> None:
    given = {f"module.net.{name.replace('1.', 'norm.')}": value for name, value in state().items()}
    assert len(given) == 7
    model = un.from_torch(given, network(), rename={"module.net": "", "module.net.norm": "1"})
    assert np.array_equal(model.parameters()["1.gamma"].value, given["module.net.norm.weight"])
    un.from_torch(given, network(), rename={"module.net.": "", "module.net.norm.": "1."})
    inner = un.from_torch(state(), un.Sequential(network()), rename={"": "0"})
    assert np.array_equal(inner.parameters()["0.1.gamma"].value, state()["1.weight"])


@pytest.mark.parametrize("target", ["1.gamma", "1.weight"])
def test_rename_maps_a_whole_name_to_either_name(target: str) -> None:
    given = state()
    given["scale"] = given.pop("1.weight")
    model = un.from_torch(given, network(), rename={"scale": target})
    assert np.array_equal(model.parameters()["1.gamma"].value, given["scale"])


def test_rename_may_swap() -> None:
    rng = np.random.default_rng(0)
    given = {"0.weight": rng.standard_normal((3, 3)), "1.weight": rng.standard_normal((3, 3))}
    model = un.Sequential(*(un.Linear(3, 3, bias=False) for _ in range(2)))
    un.from_torch(given, model, rename={"0": "1", "1": "0"})
    assert np.allclose(model.parameters()["1.weight"].value, given["0.weight"])


def test_the_model_keeps_its_dtype() -> None:
    for ours, theirs in (("float64", "float32"), ("float32", "float64")):
        back = un.to_torch(un.from_torch(state(theirs), network(ours)))
        assert {str(value.dtype) for value in back.values()} == {ours}
        assert np.allclose(back["0.weight"], state()["0.weight"], rtol=1e-6)
    big_endian = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in state().items()}
    assert un.to_torch(un.from_torch(big_endian, network()))["0.weight"].dtype.isnative


class Foreign:
    """An array of a library that NumPy does not know."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.value


class Tensor:
    """What is asked of a tensor, here on another device and with a gradient."""

    def __init__(self, value: np.ndarray, steps: tuple[str, ...] = ("detach", "cpu")) -> None:
        self.value, self.steps = value, steps

    def detach(self) -> Tensor:
        return Tensor(self.value, self.steps[1:])

    def cpu(self) -> Tensor:
        return Tensor(self.value, self.steps[1:])

    def numpy(self) -> np.ndarray:
        assert self.steps == ()
        return self.value


@pytest.mark.parametrize("kind", [Foreign, Tensor])
def test_tensors_are_anything_that_gives_an_array(kind: type) -> None:
    back = un.to_torch(un.from_torch({name: kind(value) for name, value in state().items()}, network()))
    assert all(np.array_equal(back[name], state()[name]) for name in back)


@pytest.mark.usefixtures("strict_cupy")
def test_a_model_on_a_device_takes_states_from_anywhere() -> None:
    model = network().to("cupy")
    un.from_torch(state(), model)
    assert backend.name_of(model.parameters()["1.gamma"].value) == "cupy"
    back = un.to_torch(model)
    assert all(
        backend.name_of(value) == "numpy" and np.array_equal(value, state()[name]) for name, value in back.items()
    )
    moved_over = {name: backend.to_device(value, "cupy") for name, value in back.items()}
    assert np.array_equal(un.to_torch(un.from_torch(moved_over, network()))["1.weight"], back["1.weight"])


def test_nothing_of_torch_is_imported() -> None:
    code = "import sys, uanref; uanref.to_torch(uanref.from_torch({'weight': __import__('numpy').ones((1, 1))}, "
    code += "uanref.Linear(1, 1, bias=False))); print('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# --- what is refused ------------------------------------------------------------------------------


def test_missing_and_unexpected_names_are_listed() -> None:
    given = state()
    given["2.weight"] = given.pop("0.weight")
    sentence = refused(KeyError, given)
    assert "missing '0.weight', unexpected '2.weight'" in sentence
    many = refused(KeyError, state() | {f"9.{i}": np.zeros(1) for i in range(20)})
    assert "missing none, unexpected '9.0'" in many
    assert "and 14 more" in many
    assert "rename" in refused(KeyError, {})
    renamed = {f"net.{name}": value for name, value in state().items() if name != "0.weight"} | {"net.w": np.zeros(1)}
    assert "unexpected 'net.w (here w)'" in refused(KeyError, renamed, rename={"net": ""})


def test_running_statistics_that_one_side_lacks() -> None:
    without = {name: value for name, value in state().items() if "running" not in name}
    assert "BatchNorm here is torch's with track_running_stats=True" in refused(KeyError, without)
    norm = {name[2:]: value for name, value in state().items() if name.startswith("1.")}
    assert "track_running_stats=False" in refused(KeyError, norm, un.InstanceNorm(4))


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.zeros((3, 4), "float32"), ValueError, "0.weight has shape (3, 4) in the state, expected (4, 3)"),
        (np.zeros((1, 4, 3), "float32"), ValueError, "expected (4, 3)"),
        (np.zeros((4, 3), "float16"), TypeError, "0.weight holds float16, expected float32 or float64"),
        (np.zeros((4, 3), "complex64"), TypeError, "0.weight holds complex64"),
        (np.zeros((4, 3), "int64"), TypeError, "0.weight holds int64"),
        (np.zeros((4, 3), "bool"), TypeError, "0.weight holds bool"),
        (np.zeros((4, 3), "object"), TypeError, "0.weight holds object"),
        (np.full((4, 3), np.nan, "float32"), ValueError, "0.weight in the state holds NaN"),
        (np.full((4, 3), 1e300), ValueError, "float32 cannot hold"),
        (np.ma.masked_array(np.zeros((4, 3)), mask=True), TypeError, "0.weight, of float64, cannot become"),
        ([[0.0] * 3] * 4, TypeError, "0.weight, of list, cannot become"),
        (None, TypeError, "0.weight, of NoneType, cannot become"),
        (Foreign([[0.0]]), TypeError, "0.weight, of Foreign, cannot become"),  # type: ignore[arg-type]
        (Tensor(np.zeros((4, 3)), ("detach", "cpu", "dense")), TypeError, "0.weight, of Tensor, cannot become"),
    ],
)
def test_an_entry_that_does_not_fit(value: object, error: type[Exception], words: str) -> None:
    assert words in refused(error, state() | {"0.weight": value})


def test_a_flag_wants_a_flag() -> None:
    norm = un.UAN(2, start="data")
    assert "initialized holds float32, expected bool" in refused(
        TypeError, un.to_torch(norm) | {"initialized": np.ones((), "float32")}, norm
    )


def test_a_gamma_for_each_pixel_is_no_gamma_for_each_channel() -> None:
    given = {"weight": np.ones((4, 2, 2), "float32"), "bias": np.ones((4, 2, 2), "float32")}
    assert "GroupNorm(1, C)" in refused(ValueError, given, un.LayerNorm(4))


def test_what_is_no_state() -> None:
    assert "got a dict under 'model'" in refused(TypeError, {"model": state(), "epoch": 3})
    assert "got a ndarray under 3" in refused(TypeError, {3: np.zeros(1)})
    for given in (None, [("0.weight", 1)], un.Linear(2, 2)):
        assert "module.state_dict()" in refused(TypeError, given)
    for model in (None, {}, un.Linear):
        with pytest.raises(TypeError, match="model must be a layer"):
            un.from_torch(state(), model)  # type: ignore[type-var]
        with pytest.raises(TypeError, match="model must be a layer"):
            un.to_torch(model)  # type: ignore[arg-type]


def test_a_rename_that_fits_nothing_or_too_much() -> None:
    assert "rename 'norm' fits no name of the state, which has '0.weight'" in refused(
        ValueError, state(), rename={"norm": "1"}
    )
    assert "rename '0.w' fits no name" in refused(ValueError, state(), rename={"0.w": "0.w"})  # no part of a name
    sentence = refused(ValueError, state(), rename={"0": "1"})
    assert "'0.weight' and '1.weight' of the state would both be '1.weight'" in sentence
    for rename in (["0", "1"], {"0": 1}, {0: "1"}, "0"):
        assert "rename must be a dict" in refused(TypeError, state(), rename=rename)


# --- with PyTorch ---------------------------------------------------------------------------------


def moved(module, seed: int = 0):
    """Return the PyTorch module with every parameter and running moment off its start."""
    torch = requirements.require_torch()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value += torch.rand(value.shape, generator=generator, dtype=value.dtype) * (1 if "var" in name else 0.7)
            else:
                value += 5
    return module


LAYERS = {
    "conv": (lambda t: t.Conv2d(3, 5, 3), lambda d: un.Conv2d(3, 5, 3, dtype=d), (2, 3, 6, 7)),
    "conv without bias": (
        lambda t: t.Conv2d(3, 5, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
        lambda d: un.Conv2d(3, 5, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False, dtype=d),
        (2, 3, 6, 7),
    ),
    "conv same": (
        lambda t: t.Conv2d(2, 3, 3, padding="same"),
        lambda d: un.Conv2d(2, 3, 3, padding="same", dtype=d),
        (2, 2, 5, 4),
    ),
    "linear": (lambda t: t.Linear(4, 3), lambda d: un.Linear(4, 3, dtype=d), (5, 4)),
    "linear without bias": (
        lambda t: t.Linear(4, 3, bias=False),
        lambda d: un.Linear(4, 3, bias=False, dtype=d),
        (5, 4),
    ),
    "batch norm 1d": (lambda t: t.BatchNorm1d(3), lambda d: un.BatchNorm(3, dtype=d), (6, 3)),
    "batch norm 1d, rank 3": (
        lambda t: t.BatchNorm1d(3, eps=0.1, momentum=0.3),
        lambda d: un.BatchNorm(3, eps=0.1, momentum=0.3, dtype=d),
        (6, 3, 4),
    ),
    "batch norm 2d": (lambda t: t.BatchNorm2d(3), lambda d: un.BatchNorm(3, dtype=d), (4, 3, 2, 3)),
    "batch norm plain": (
        lambda t: t.BatchNorm2d(3, affine=False),
        lambda d: un.BatchNorm(3, affine=False, dtype=d),
        (4, 3, 2, 3),
    ),
    "layer norm": (lambda t: t.LayerNorm(4), lambda d: un.LayerNorm(4, dtype=d), (5, 4)),
    "group norm": (lambda t: t.GroupNorm(2, 4), lambda d: un.GroupNorm(2, 4, dtype=d), (3, 4, 2, 3)),
    "one group": (lambda t: t.GroupNorm(1, 4), lambda d: un.LayerNorm(4, dtype=d), (3, 4, 2, 3)),
    "instance norm": (
        lambda t: t.InstanceNorm2d(3, affine=True),
        lambda d: un.InstanceNorm(3, dtype=d),
        (2, 3, 4, 3),
    ),
    "instance norm plain": (
        lambda t: t.InstanceNorm1d(3),
        lambda d: un.InstanceNorm(3, affine=False, dtype=d),
        (2, 3, 4),
    ),
    "nested": (
        lambda t: t.Sequential(
            t.Sequential(t.Conv2d(2, 4, 3, padding=1, bias=False), t.BatchNorm2d(4), t.ReLU(), t.MaxPool2d(2)),
            t.Sequential(t.Sequential(t.GroupNorm(2, 4), t.Tanh()), t.Flatten()),
            t.Linear(24, 3),
        ),
        lambda d: un.Sequential(
            un.Sequential(
                un.Conv2d(2, 4, 3, padding=1, bias=False, dtype=d), un.BatchNorm(4, dtype=d), un.ReLU(), un.MaxPool2d(2)
            ),
            un.Sequential(un.Sequential(un.GroupNorm(2, 4, dtype=d), un.Tanh()), un.Flatten()),
            un.Linear(24, 3, dtype=d),
        ),
        (3, 2, 4, 6),
    ),
}


def agree(torch, module, model: un.Layer, shape: tuple[int, ...], dtype: str, seed: int = 0) -> None:
    """Check the outputs in train mode, then those in eval mode with the moments that this moved, and those moments."""
    rng = np.random.default_rng(seed)
    for mode in (True, True, False):
        x = (0.5 + 2.0 * rng.standard_normal(shape)).astype(dtype)
        theirs = module.train(mode)(torch.from_numpy(x)).detach().numpy()
        ours = model.train(mode).forward(x)
        assert ours.dtype == theirs.dtype == dtype
        assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max(), mode
    expected = module.state_dict()
    for name, value in un.to_torch(model).items():
        assert np.allclose(value, expected[name].numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_real_module_computes_the_same(name: str, dtype: str) -> None:
    torch = requirements.require_torch()
    theirs, ours, shape = LAYERS[name]
    module, model = moved(theirs(torch.nn).to(getattr(torch, dtype))), ours(dtype)
    un.from_torch(module.state_dict(), model)
    with backend.inference():
        agree(torch, module, model, shape, dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_the_way_back_is_strict(name: str) -> None:
    torch = requirements.require_torch()
    theirs, ours, _ = LAYERS[name]
    module, other = moved(theirs(torch.nn)), theirs(torch.nn)
    model = un.from_torch(module.state_dict(), ours("float32"))
    back = {key: torch.from_numpy(value) for key, value in un.to_torch(model).items()}
    found = other.load_state_dict(back, strict=True)
    assert not found.missing_keys
    assert not found.unexpected_keys
    for key, value in module.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, other.state_dict()[key]), key
    assert {key for key in module.state_dict() if not key.endswith("tracked")} == back.keys()


def test_a_residual_block_by_rename() -> None:
    torch = requirements.require_torch()
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
            self.downsample = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))

        def forward(self, x):
            return self.bn1(self.conv1(x)) + self.downsample(x)

    module = moved(nn.Sequential(OrderedDict(block=Block(), relu=nn.ReLU())).double())
    body = un.Sequential(un.Conv2d(2, 3, 3, padding=1, bias=False, dtype="float64"), un.BatchNorm(3, dtype="float64"))
    shortcut = un.Sequential(un.Conv2d(2, 3, 1, dtype="float64"), un.BatchNorm(3, dtype="float64"))
    model = un.Sequential(un.Residual(body, shortcut), un.ReLU())
    rename = {"block.conv1": "0.body.0", "block.bn1": "0.body.1", "block.downsample": "0.shortcut"}
    un.from_torch(module.state_dict(), model, rename)
    with backend.inference():
        x = np.random.default_rng(0).standard_normal((2, 2, 4, 4))
        for mode in (False, True):
            theirs = module.train(mode)(torch.from_numpy(x)).detach().numpy()
            assert np.abs(model.train(mode).forward(x) - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_tensors_that_numpy_cannot_hold() -> None:
    torch = requirements.require_torch()
    weight, given = torch.randn(4, 3), {name: torch.from_numpy(value) for name, value in state().items()}
    un.from_torch(given | {"0.weight": torch.nn.Parameter(weight)}, network())
    unfit = {
        "bfloat16": weight.bfloat16(),
        "float16": weight.half(),
        "complex64": weight.to(torch.complex64),
        "Sparse": weight.to_sparse(),
        "meta": weight.to("meta"),
        "int32": weight.int(),
        "QInt8": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "conjugate": torch.complex(weight, weight).conj(),
    }
    for word, tensor in unfit.items():
        sentence = refused(TypeError, given | {"0.weight": tensor})
        assert word in sentence
        assert "float32 or float64" in sentence
    assert "(8, 3) in the state" in refused(ValueError, given | {"0.weight": torch.zeros(8, 3)})
    assert "module.state_dict()" in refused(TypeError, torch.nn.Linear(2, 2))


def test_running_statistics_of_a_real_instance_norm() -> None:
    torch = requirements.require_torch()
    module = torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
    assert "track_running_stats=False" in refused(KeyError, module.state_dict(), un.InstanceNorm(3))
    module = torch.nn.BatchNorm2d(3, track_running_stats=False)
    assert "track_running_stats=True" in refused(KeyError, module.state_dict(), un.BatchNorm(3))
