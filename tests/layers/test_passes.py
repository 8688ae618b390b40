"""What holds for every pass: one thread at a time, a warning for passes without end, watching, quiet underflow."""

from __future__ import annotations

import contextvars
import copy
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.heavy import slow

import uanref
from uanref import MSE, SGD, Adam, BatchNorm, Layer, Linear, ReLU, Residual, Sequential, Tanh, backend, gradcheck
from uanref.layers.passes import MANY

X = np.random.default_rng(0).standard_normal((6, 4))


def in_thread(run: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def model() -> Sequential:
    return Sequential(Linear(4, 4, dtype="float64"), Residual(Sequential(Tanh(), BatchNorm(4, dtype="float64"))))


class TestThreads:
    @pytest.mark.parametrize("make", [model, lambda: BatchNorm(4, dtype="float64"), ReLU])
    def test_a_backward_pass_of_another_thread_is_refused_and_the_pass_stays(self, make: Callable[[], Layer]) -> None:
        layer = make()
        y = layer.forward(X)
        with pytest.raises(RuntimeError, match=r"backward in one thread while .* of another thread is pending.*clear"):
            in_thread(lambda: layer.backward(y))
        assert layer.backward(y).shape == X.shape

    def test_a_thread_that_got_an_ended_threads_identity_is_still_another(self) -> None:
        layer = model()
        y = in_thread(lambda: layer.forward(X))
        for _ in range(5):
            with pytest.raises(RuntimeError, match="another thread"):
                in_thread(lambda: layer.backward(y))

    def test_training_forwards_of_two_threads_are_refused(self) -> None:
        layer = model()
        layer.forward(X)
        with pytest.raises(RuntimeError, match=r"Linear\.forward in one thread while .*copy of the layer"):
            in_thread(lambda: layer.forward(X))
        layer.clear()
        in_thread(lambda: layer.backward(layer.forward(X)))

    def test_a_loss_is_one_threads_too(self) -> None:
        loss = MSE()
        loss.forward(X, X)
        for run in (loss.backward, lambda: loss.forward(X, X)):
            with pytest.raises(RuntimeError, match=r"MSE\.(for|back)ward in one thread"):
                in_thread(run)
        loss.backward()

    def test_two_threads_that_train_one_layer_do_not_both_get_through(self) -> None:
        layer, barrier, errors = model(), threading.Barrier(2), []

        def train() -> None:
            try:
                barrier.wait()
                y = layer.forward(X)
                barrier.wait()
                layer.backward(y)
            except (RuntimeError, threading.BrokenBarrierError) as error:
                errors.append(error)
                barrier.abort()

        threads = [threading.Thread(target=train) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert any("another thread" in str(error) for error in errors)

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_passes_that_interleave_are_each_its_threads(self, order: tuple[int, int]) -> None:
        """This thread trains; meanwhile another keeps a pass in eval mode. Each backward pass takes its own."""
        layer, alone, other, found = model(), model(), 2.0 * X, {}
        alone.forward(X)
        expected = {0: alone.backward(X)}
        alone.eval().forward(other)
        expected[1] = alone.backward(X)
        same = contextvars.copy_context().run  # definitions there as well, where it is they that this thread tests
        with ThreadPoolExecutor(1) as pool:
            layer.forward(X)
            pool.submit(same, layer.eval().forward, other).result()
            for which in order:
                found[which] = layer.backward(X) if which == 0 else pool.submit(same, layer.backward, X).result()
        for which in order:
            np.testing.assert_array_equal(found[which], expected[which])
        assert all(not each._pending for _, each in layer.modules())

    def test_a_training_pass_under_ones_own_pending_pass_is_seen(self) -> None:
        layer = ReLU()
        layer.forward(X)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(layer.eval().forward, X).result()  # now the latest, and that thread's own
            with pytest.raises(RuntimeError, match=r"ReLU\.forward in one thread"):
                pool.submit(layer.train().forward, X).result()

    def test_a_thread_without_a_pass_takes_none_of_the_others(self) -> None:
        layer, loss = ReLU().eval(), MSE()
        in_thread(lambda: layer.forward(X))
        layer.forward(X)
        in_thread(lambda: loss.forward(X, X))
        layer.backward(X)
        for run in (lambda: layer.backward(X), loss.backward):
            with pytest.raises(RuntimeError, match=r"backward in one thread"):
                run()

    def test_backward_passes_of_many_threads_lose_none(self) -> None:
        layer = Linear(4, 4, dtype="float64").eval()
        inputs = [(i + 1.0) * X for i in range(4)]

        def run(x: np.ndarray) -> list[np.ndarray]:
            found = []
            for _ in range(100):
                layer.forward(x)
                found.append(layer._take(X)[0])
            return found

        with ThreadPoolExecutor(4) as pool:
            for x, kept in zip(inputs, pool.map(run, inputs), strict=True):
                assert all(each is x for each in kept)
        assert not layer._pending

    def test_a_model_may_be_handed_on_between_steps_and_gives_the_same_numbers(self) -> None:
        alone, handed = model(), model()

        def step(layer: Layer) -> None:
            layer.backward(layer.forward(X))
            SGD(layer.parameters(), lr=0.1).step()

        for _ in range(4):
            step(alone)
            in_thread(lambda: step(handed))
        for name, value in alone.state_dict().items():
            np.testing.assert_allclose(handed.state_dict()[name], value, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("training", [True, False])
    def test_any_number_of_threads_predict(self, training: bool) -> None:
        layer = Sequential(Linear(4, 4, dtype="float64"), Tanh()).train(training)
        layer.forward(X)  # its own pass stays pending and stays its own

        def predict(_: int) -> np.ndarray:
            with backend.inference():
                return layer.forward(X)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(predict, range(20)))
        for result in results:
            np.testing.assert_array_equal(result, results[0])
        layer.backward(X)

    def test_settings_do_not_reach_threads_that_are_started_inside_their_blocks(self) -> None:
        with backend.inference(), backend.limit_threads(1), backend.plain(), ThreadPoolExecutor(1) as pool:
            assert not pool.submit(backend.is_inference).result()
            assert not pool.submit(backend.is_plain).result()
            assert backend.is_inference()

    def test_a_layer_with_a_pending_pass_is_copied(self) -> None:
        layer = model()
        y = layer.forward(X)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            np.testing.assert_array_equal(twin.backward(y), copy.deepcopy(layer).backward(y))


class TestPassesWithoutEnd:
    def forwards(self, layer: Layer, number: int) -> list[str]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(number):
                layer.forward(X[:2])
        return [str(each.message) for each in told]

    def test_one_warning_for_a_model_names_both_ways_out(self) -> None:
        layer = Sequential(Linear(4, 4, dtype="float64"), ReLU(), Tanh())
        assert self.forwards(layer, MANY - 1) == []
        (text,) = self.forwards(layer, MANY + 5)
        assert "1000 forward passes" in text
        assert "clear()" in text
        assert "backend.inference()" in text

    def test_another_model_is_told_of_by_itself(self) -> None:
        assert len(self.forwards(ReLU(), MANY)) == len(self.forwards(ReLU(), MANY)) == 1

    def test_inference_and_training_are_not(self) -> None:
        layer = ReLU()
        with backend.inference():
            assert self.forwards(layer, MANY + 1) == []
        for _ in range(MANY + 1):
            layer.backward(layer.forward(X))

    def test_a_loss_warns_too(self) -> None:
        loss = MSE()
        for _ in range(MANY - 1):
            loss.forward(X, X)
        with pytest.warns(UserWarning, match=r"MSE .*clear\(\)"):
            loss.forward(X, X)


class Twice(Layer):
    """Custom: two layers in a list, one of them applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Linear(4, 4, dtype="float64"), Tanh()]

    def forward(self, x: np.ndarray) -> np.ndarray:
        linear, tanh = self.blocks
        return tanh(tanh(linear(x)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        linear, tanh = self.blocks
        return linear.backward(tanh.backward(tanh.backward(dy)))


class TestWatch:
    def test_outputs_and_their_gradients_by_name(self) -> None:
        layer = model()
        before = {name: set(vars(each)) for name, each in layer.modules()}
        with layer.watch() as seen:
            y = layer.forward(X)
            dx = layer.backward(2.0 * y)
        names = {name for name, _ in layer.modules()}
        assert set(seen.activations) == set(seen.gradients) == names
        assert seen.activations[""] is y
        for name in names:
            assert seen.activations[name].shape == seen.gradients[name].shape
        # By hand: the first layer's output, and what its backward pass turned into dx.
        linear = layer[0]
        np.testing.assert_array_equal(seen.activations["0"], X @ linear.weight.value.T + linear.bias.value)
        np.testing.assert_allclose(seen.gradients["0"] @ linear.weight.value, dx, rtol=1e-13)
        np.testing.assert_array_equal(seen.gradients[""], 2.0 * y)
        assert {name: set(vars(each)) for name, each in layer.modules()} == before
        assert all("forward" not in vars(each) for _, each in layer.modules())

    def test_nothing_is_recorded_after_the_block_or_by_another_thread_or_model(self) -> None:
        layer, other = model(), model()
        with layer.watch() as seen:
            in_thread(lambda: layer.backward(layer.forward(X)))
            other.forward(X)
        layer.forward(X)
        assert seen.activations == seen.gradients == {}

    def test_bits_do_not_change(self) -> None:
        one, two = model(), model()
        y = one.forward(X)
        with two.watch():
            np.testing.assert_array_equal(two.forward(X), y)
            np.testing.assert_array_equal(two.backward(y), one.backward(y))

    def test_a_custom_layer_and_the_latest_call_of_a_layer_that_is_called_twice(self) -> None:
        layer = Twice()
        with layer.watch() as seen:
            y = layer.forward(X)
            layer.backward(X)
        assert set(seen.activations) == {"", "blocks.0", "blocks.1"}
        assert seen.activations["blocks.1"] is y
        assert seen.gradients["blocks.1"] is X  # of that call, the last forward and the first backward

    def test_a_layer_in_two_places_has_both_names(self) -> None:
        relu = ReLU()
        layer = Sequential(relu, Linear(4, 4, dtype="float64"), relu)
        with layer.watch() as seen:
            y = layer.forward(X)
            layer.backward(X)
        assert seen.activations["2"] is y
        np.testing.assert_array_equal(seen.activations["0"], np.maximum(X, 0))
        assert seen.gradients["2"] is X
        np.testing.assert_array_equal(seen.gradients["0"], seen.gradients["1"] @ layer[1].weight.value)

    def test_a_norm_that_calls_its_base_is_one_call(self) -> None:
        layer, x = uanref.InstanceNorm(2, dtype="float64"), np.random.default_rng(0).standard_normal((2, 2, 5))
        with layer.watch() as outer, layer.watch() as inner:
            y = layer.forward(x)
            layer.backward(x)
        for seen in (outer, inner):
            assert seen.activations[""] is y
            assert seen.gradients[""] is x

    def test_a_new_pass_has_no_old_gradient_and_an_error_ends_the_block(self) -> None:
        layer = model()
        with layer.watch() as seen:
            layer.backward(layer.forward(X))
            layer.forward(X)
            assert seen.gradients == {}
        layer.clear()
        with pytest.raises(ValueError, match="expects"), layer.watch():
            layer.forward(X[:, :2])
        with layer.watch() as seen, backend.inference():
            layer.forward(X)
        assert set(seen.activations) == {name for name, _ in layer.modules()}

    def test_arrays_given_by_name_are_seen(self) -> None:
        layer = model()
        with layer.watch() as seen:
            y = layer.forward(x=X)
            layer.backward(dy=X)
        assert seen.activations[""] is y
        assert seen.gradients[""] is X
        assert set(seen.gradients) == {name for name, _ in layer.modules()}

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_after_a_pass_that_raised_the_next_begins_anew(self, error: type[BaseException]) -> None:
        """A layer in two places is called in their order; a pass that ended between them is no call."""
        relu, broken = ReLU(), Linear(4, 4, dtype="float64")
        layer = Sequential(relu, broken, relu)
        really = Linear._check_input

        def check(self: Linear, x: np.ndarray) -> None:
            if fail:
                raise error
            really(self, x)

        with pytest.MonkeyPatch.context() as patch, layer.watch() as seen:
            patch.setattr(Linear, "_check_input", check)
            for fail in (True, False):
                if fail:
                    with pytest.raises(error):
                        layer.forward(X)
                    layer.clear()
                else:
                    y = layer.forward(X)
                    layer.backward(X)
        assert seen.activations["2"] is y
        np.testing.assert_array_equal(seen.activations["0"], np.maximum(X, 0))
        assert seen.gradients["2"] is X
        np.testing.assert_array_equal(seen.gradients["0"], seen.gradients["1"] @ broken.weight.value)


class TestErrorsAsExceptions:
    """Under ``numpy.seterr(all="raise")`` everything works as under NumPy's defaults: exp may give 0."""

    NORMS = ("BatchNorm", "LayerNorm", "InstanceNorm", "MixtureNorm", "ModeNorm", "UAN")

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("name", NORMS)
    def test_a_training_step_of_every_norm(self, name: str, plain: bool) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((8, 3, 5, 5)).astype("float32")
        x[0, 0] = 30.0  # far from every component
        results = []
        for mode in ("warn", "raise"):
            with np.errstate(**({"all": "raise"} if mode == "raise" else {})), backend.plain(plain):
                layer = getattr(uanref, name)(3)
                loss, optimizer = MSE(), Adam(layer.parameters())
                for _ in range(2):
                    loss.forward(layer.forward(x), np.zeros_like(x) + np.float32(1e-25))
                    with backend.quiet_underflow():
                        dy = loss.backward() * np.float32(1e-25)
                    layer.backward(dy)
                    uanref.clip_grad_norm(layer.parameters(), 1.0)
                    optimizer.step()
                results.append([value.tobytes() for value in layer.state_dict().values()])
        assert results[0] == results[1]

    @pytest.mark.parametrize("make", [uanref.Sigmoid, uanref.Tanh, uanref.GELU])
    def test_activations_far_out(self, make: Callable[[], Layer]) -> None:
        x = np.array([-500.0, -39.0, 39.0, 500.0, 0.0, 1e-200])
        with np.errstate(all="raise"):
            layer = make()
            layer.backward(layer.forward(x))

    def test_what_the_caller_asked_for_besides_stays(self) -> None:
        with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="overflow"):
            Residual(ReLU()).forward(np.array([1.5e308]))

    def test_softmax_and_conversion(self) -> None:
        with np.errstate(all="raise"):
            loss = uanref.SoftmaxCrossEntropy()
            loss.forward(np.array([[0.0, -800.0]]), np.array([0]))
            loss.backward()
            layer = Linear(1, 1, dtype="float64")
            layer.weight.value = np.array([[1e-300]])
            assert layer.to("float32").weight.value[0, 0] == 0

    def test_a_gradient_check(self) -> None:
        with np.errstate(all="raise"):
            assert gradcheck.check(uanref.UAN(3, dtype="float64"), 4.0 * X[:, :3]).ok


AT_EXIT = """
import atexit, sys, threading
import numpy as np
import uanref
from uanref import backend

layer, x = uanref.{layer}, np.random.default_rng(0).standard_normal((64, 8, 50, 50)).astype("float32")
if {before}:
    with backend.limit_threads(4), backend.inference():
        layer.forward(x)

def last():
    with backend.limit_threads(4):
        y = layer.forward(x)
        layer.backward(y)
    print("done", y.shape)

atexit.register(last)
"""


@pytest.mark.parametrize("before", [True, slow(False)])
@pytest.mark.parametrize("layer", ["BatchNorm(8)", slow("GELU()")])
def test_a_pass_at_the_end_of_the_process(layer: str, before: bool) -> None:
    program = AT_EXIT.format(layer=layer, before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done (64, 8, 50, 50)\n", "")
