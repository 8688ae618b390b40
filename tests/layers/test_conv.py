"""Conv2d: against loops, against PyTorch, gradients both ways, padding rules, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import requirements
from support.arrays import LAYOUTS, draw_array, shake

from uanref import backend, gradcheck
from uanref.kernels.cpu import blocks, threads
from uanref.kernels.cpu import columns as cpu_columns
from uanref.layers import conv
from uanref.layers.conv import Conv2d
from uanref.layers.window import Window

FEW = settings(max_examples=max(10, settings.default.max_examples // 2))
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDINGS = st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.sampled_from(["same", "valid"]))
OPTIONS = st.fixed_dictionaries(
    {
        "kernel_size": PAIRS,
        "stride": st.one_of(st.just((1, 1)), PAIRS),
        "padding": PADDINGS,
        "dilation": st.one_of(st.just((1, 1)), PAIRS),
        "bias": st.booleans(),
    }
)
SIZES = st.fixed_dictionaries(
    {
        "samples": st.integers(1, 3),
        "inputs": st.integers(1, 3),
        "outputs": st.integers(1, 7),
        "height": st.integers(1, 6),
        "width": st.integers(1, 6),
    }
)


def margins(options: dict) -> tuple[int, int, int, int]:
    """Zeros at top, bottom, left, right: an independent statement of the padding rules."""
    if options["padding"] == "valid":
        return 0, 0, 0, 0
    if options["padding"] == "same":
        total = [d * (k - 1) for k, d in zip(options["kernel_size"], options["dilation"], strict=True)]
        return total[0] // 2, (total[0] + 1) // 2, total[1] // 2, (total[1] + 1) // 2
    down, across = options["padding"]
    return down, down, across, across


def by_loops(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, options: dict) -> np.ndarray:
    """The definition, pixel by pixel."""
    top, bottom, left, right = margins(options)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sh, sw), (dh, dw), (kh, kw) = options["stride"], options["dilation"], options["kernel_size"]
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((x.shape[0], weight.shape[0], height, width))
    for n, o, h, w in np.ndindex(*y.shape):
        patch = padded[n, :, h * sh : h * sh + dh * (kh - 1) + 1 : dh, w * sw : w * sw + dw * (kw - 1) + 1 : dw]
        y[n, o, h, w] = (weight[o] * patch).sum() + (0.0 if bias is None else bias[o])
    return y


def drawn(sizes: dict, options: dict, seed: int, layout: str = "C") -> tuple[Conv2d, np.ndarray]:
    """A layer and an input that fit together."""
    if options["padding"] == "same":
        options["stride"] = (1, 1)
    top, bottom, left, right = margins(options)
    reach = [d * (k - 1) + 1 for k, d in zip(options["kernel_size"], options["dilation"], strict=True)]
    assume(reach[0] <= sizes["height"] + top + bottom and reach[1] <= sizes["width"] + left + right)
    layer = Conv2d(sizes["inputs"], sizes["outputs"], **options, dtype="float64", rng=np.random.default_rng(seed))
    shape = (sizes["samples"], sizes["inputs"], sizes["height"], sizes["width"])
    return shake(layer, seed), draw_array(shape, seed, layout=layout)  # type: ignore[return-value]


@FEW
@given(sizes=SIZES, options=OPTIONS, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_forward_is_the_definition(sizes: dict, options: dict, seed: int, layout: str) -> None:
    layer, x = drawn(sizes, options, seed, layout)
    before = x.copy()
    expected = by_loops(x, layer.weight.value, None if layer.bias is None else layer.bias.value, options)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(x, before)


@FEW
@given(sizes=SIZES, options=OPTIONS, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_gradients(sizes: dict, options: dict, seed: int, layout: str) -> None:
    layer, x = drawn(sizes, options, seed, layout)
    gradcheck.assert_ok(layer, x, seed=seed, directions=1, jacobian=False, complex_step=True)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # of PyTorch's own way to pad
@given(sizes=SIZES, options=OPTIONS, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_forward_and_gradients_are_pytorchs(sizes: dict, options: dict, seed: int, layout: str) -> None:
    torch = requirements.require_torch()
    layer, x = drawn(sizes, options, seed, layout)
    peer = torch.nn.Conv2d(sizes["inputs"], sizes["outputs"], **options).double()
    peer.weight.data = torch.tensor(layer.weight.value)
    if layer.bias is not None:
        peer.bias.data = torch.tensor(layer.bias.value)
    x_peer = torch.tensor(x.copy(), requires_grad=True)
    y_peer = peer(x_peer)
    y = layer.forward(x)
    np.testing.assert_allclose(y, y_peer.detach().numpy(), rtol=1e-11, atol=1e-12)

    dy = draw_array(y.shape, seed + 1, layout=layout)
    before = dy.copy()
    y_peer.backward(torch.tensor(dy.copy()))
    np.testing.assert_allclose(layer.backward(dy), x_peer.grad.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer.weight.grad, peer.weight.grad.numpy(), rtol=1e-11, atol=1e-11)
    if layer.bias is not None:
        np.testing.assert_allclose(layer.bias.grad, peer.bias.grad.numpy(), rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(dy, before)


def test_adding_columns_is_the_transpose_of_making_them() -> None:
    # <columns(x), c> = <x, add_columns(c)> for every x and c
    window, x = Window((2, 3), (2, 1), (1, 2), (1, 0, 2, 1)), draw_array((2, 3, 5, 6), 1)
    columns = conv.columns(x, window)
    c = draw_array(columns.shape, 2)
    added = conv.add_columns(c, x.shape, window)
    assert (columns * c).sum() == pytest.approx((x * added).sum(), rel=1e-12)


def test_columns_of_a_small_image() -> None:
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)  # 1 2 3 / 4 5 6
    columns = conv.columns(x, Window((2, 2), (1, 1), (1, 1), (0, 0, 0, 0)))
    assert columns[0].T.tolist() == [[1, 2, 4, 5], [2, 3, 5, 6]]


def test_same_puts_the_odd_zero_at_the_bottom_and_right() -> None:
    layer = Conv2d(1, 1, 2, padding="same", bias=False, dtype="float64")
    layer.weight.value = np.ones((1, 1, 2, 2))
    x = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)  # 1 2 / 3 4
    assert layer.forward(x)[0, 0].tolist() == [[10, 6], [7, 4]]


@pytest.mark.versions("threads")
@pytest.mark.parametrize("outputs", [2, 9])  # both ways back
def test_no_bit_depends_on_the_number_of_threads(outputs: int) -> None:
    layer = Conv2d(4, outputs, 3, padding=1)
    x = draw_array((40, 4, 24, 24), 1, dtype="float32")
    assert x.size > blocks.THREADED_ELEMENTS
    dy = draw_array((40, outputs, 24, 24), 2, dtype="float32")
    results = []
    for count in (1, 2, 3):
        with backend.limit_threads(count), threads._blas().limit(limits=1, user_api="blas"):
            y = layer.forward(x)
            dx = layer.backward(dy)
        results.append((y, dx, layer.weight.grad, layer.bias.grad))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.versions("blocks")
def test_blocks_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Conv2d(3, 5, 3, stride=2, padding=1, dtype="float64"), draw_array((11, 3, 9, 9), 1)
    dy = draw_array(layer.forward(x).shape, 2)
    results = []
    for samples in (1, 4, 11):
        cut = [slice(i, min(i + samples, 11)) for i in range(0, 11, samples)]
        monkeypatch.setattr(cpu_columns, "sample_blocks", lambda *_, cut=cut: cut)
        layer.clear()
        y = layer.forward(x)
        results.append((y, layer.backward(dy), layer.weight.grad))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_dtype_is_kept_whatever_the_layout(dtype: str, layout: str, kernel: int) -> None:
    layer = Conv2d(3, 4, kernel, dtype=dtype)
    x = draw_array((2, 3, 5, 6), 1, dtype=dtype, layout=layout)
    y = layer.forward(x)
    dx = layer.backward(draw_array(y.shape, 2, dtype=dtype, layout=layout))
    assert y.dtype == dx.dtype == layer.weight.grad.dtype == layer.bias.grad.dtype == dtype
    assert dx.shape == x.shape
    copied = Conv2d(3, 4, kernel, dtype=dtype)
    np.testing.assert_allclose(copied.forward(np.ascontiguousarray(x)), y, rtol=1e-5, atol=1e-6)


def test_shapes_names_and_start() -> None:
    layer = Conv2d(32, 64, (3, 5))
    assert {name: p.shape for name, p in layer.parameters().items()} == {"weight": (64, 32, 3, 5), "bias": (64,)}
    assert layer.weight.value.dtype == "float32"
    assert layer.weight.value.std() == pytest.approx(np.sqrt(2 / (32 * 15)), rel=0.02)
    assert not layer.bias.value.any()
    assert list(Conv2d(1, 1, 1, bias=False).parameters()) == ["weight"]


def test_state_dict_round_trip() -> None:
    layer, other = Conv2d(2, 3, 3), Conv2d(2, 3, 3, rng=np.random.default_rng(5))
    x = draw_array((2, 2, 5, 5), 1, dtype="float32")
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer.forward(x), other.forward(x))


def test_two_forwards_then_their_backwards_in_reverse() -> None:
    layer = Conv2d(2, 3, 3, dtype="float64")
    x, dy = [draw_array((2, 2, 5, n), n) for n in (4, 6)], [draw_array((2, 3, 3, n), 9 + n) for n in (2, 4)]
    alone = []
    for one, gradient in zip(x, dy, strict=True):
        layer.forward(one)
        alone.append(layer.backward(gradient))
    for one in x:
        layer.forward(one)
    np.testing.assert_array_equal(layer.backward(dy[1]), alone[1])
    np.testing.assert_array_equal(layer.backward(dy[0]), alone[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be >= 1"),
        ({"kernel_size": 3, "stride": 0}, "stride must be >= 1"),
        ({"kernel_size": 3, "padding": -1}, "padding must be >= 0"),
        ({"kernel_size": 3, "dilation": (1, 0)}, "dilation must be >= 1"),
        ({"kernel_size": 3, "padding": "full"}, "padding must be 'same', 'valid' or numbers"),
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "needs stride 1"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Conv2d(2, 3, **options)


@pytest.mark.parametrize("size", [2.0, (3, 3, 3), "3", (1, 2.5), True])
def test_a_size_must_be_integers(size: object) -> None:
    with pytest.raises(TypeError, match="kernel_size must be"):
        Conv2d(2, 3, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 2, 5), (4, 3, 5, 5), (2, 5, 5), (2, 2, 5, 5, 5)])
def test_wrong_rank_or_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Conv2d expects \(N, 2, H, W\), got"):
        Conv2d(2, 3, 3).forward(draw_array(shape, 1, dtype="float32"))


def test_a_kernel_larger_than_the_padded_image() -> None:
    with pytest.raises(ValueError, match=r"larger than images of 2 x 6 with padding \(0, 0\)"):
        Conv2d(2, 3, 3).forward(draw_array((1, 2, 2, 6), 1, dtype="float32"))
    Conv2d(2, 3, 3, padding=1).forward(draw_array((1, 2, 1, 6), 1, dtype="float32"))


def test_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="float32 parameters but got an input of float64"):
        Conv2d(2, 3, 3).forward(draw_array((1, 2, 5, 5), 1))


def test_a_gradient_of_another_shape_is_refused() -> None:
    layer = Conv2d(2, 3, 3)
    layer.forward(draw_array((1, 2, 5, 5), 1, dtype="float32"))
    with pytest.raises(ValueError, match=r"\(1, 3, 5, 5\) for an output of shape \(1, 3, 3, 3\)"):
        layer.backward(draw_array((1, 3, 5, 5), 1, dtype="float32"))
