"""The peers: each computes what we compute, says what it cannot do, and is imported when it is asked for alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support import requirements

from uanref.bench import cases, ours, peers, work
from uanref.bench.peers import Cannot, PeerMissing
from uanref.bench.peers.jax import Jax
from uanref.bench.peers.mygrad import MyGrad
from uanref.bench.peers.numpy_ml import NumpyML
from uanref.bench.work import Stage, Work

MLP = (Stage("linear", 6, 8, bias=False), Stage("bn", 8), Stage("relu"), Stage("linear", 8, 3))
CNN = (
    Stage("conv", 1, 4, bias=False),
    Stage("uan", 4),
    Stage("relu"),
    Stage("pool"),
    Stage("conv", 4, 6, 5),
    Stage("gelu"),
    Stage("global_pool"),
    Stage("linear", 6, 3),
)
WORKS = {
    "conv": Work((3, 2, 6, 5), (Stage("conv", 2, 4),)),
    "conv 5x5": Work((3, 2, 6, 6), (Stage("conv", 2, 4, 5),)),
    "batch norm": Work((3, 4, 6, 5), (Stage("bn", 4),)),
    "batch norm of vectors": Work((8, 4), (Stage("bn", 4),)),
    "uan": Work((3, 4, 6, 5), (Stage("uan", 4),)),
    "uan of vectors": Work((16, 4), (Stage("uan", 4, components=2),)),
    "relu": Work((3, 4, 6, 5), (Stage("relu"),)),
    "gelu": Work((3, 4, 6, 5), (Stage("gelu"),)),
    "pool": Work((3, 4, 6, 6), (Stage("pool"),)),
    "flatten": Work((3, 4, 2, 2), (Stage("flatten"), Stage("linear", 16, 5))),
    "loss": Work((8, 5), (), "loss"),
    "mlp": Work((16, 6), MLP, "step"),
    "cnn": Work((8, 1, 8, 8), CNN, "step"),
}
# PyTorch is there wherever the tests run in full; of the others those that are installed.
OTHERS = {"jax": "jax", "mygrad": "mygrad", "numpy-ml": "numpy_ml", "chainer": "chainer"}
THERE = ["torch", *(name for name, module in OTHERS.items() if importlib.util.find_spec(module))]


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("what", WORKS)
def test_both_sides_compute_the_same(name: str, what: str) -> None:
    if name == "torch":
        requirements.require_torch()
    peer, each = peers.make(name), WORKS[what]
    peer.load()
    made = ours.layers(each)
    given = work.material(each, ours.weights(made, each))
    try:
        with peer.limited(1):
            theirs = peer.task(each, given)
    except Cannot as reason:
        if name == "torch":
            pytest.fail(str(reason))
        return
    mine = ours.task(made, each, given)
    for _ in range(4):  # steps of training move both alike
        one, other = mine(), peer.host(each, theirs())
        assert len(one) == len(other)
        for a, b in zip(map(np.asarray, one), other, strict=True):
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 5e-5 * max(1.0, np.abs(b).max())
            assert np.abs(a).max() > 0


COMPILED = """
import numpy as np
from uanref.bench import ours, peers, work
from uanref.bench.work import Stage, Work

peer, each = peers.make("torch-compile"), Work((16, 4), (Stage("uan", 4, components=2),))
peer.load()
made = ours.layers(each)
given = work.material(each, ours.weights(made, each))
for a, b in zip(ours.task(made, each, given)(), peer.host(each, peer.task(each, given)()), strict=True):
    assert np.abs(a - b).max() <= 5e-5 * max(1.0, np.abs(b).max())
"""


@pytest.mark.slow
def test_the_compiled_formula_is_the_same() -> None:
    requirements.require_torch()
    try:
        peers.make("torch-compile").load()
    except PeerMissing as reason:
        requirements.skip(str(reason))
    # In a process of its own: the compiler looks into the CuPy that is loaded, which may be the emulated one here.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pytorch_s_threads_are_set_and_given_back() -> None:
    torch = requirements.require_torch()
    peer = peers.make("torch")
    peer.load()
    before = torch.get_num_threads()
    with peer.limited(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_xla_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    peer = Jax()
    environ = sys.modules["os"].environ
    peer.found = SimpleNamespace(devices=lambda kind: seen.extend([environ["PJRT_NPROC"], environ["XLA_FLAGS"]]))  # type: ignore[assignment]
    with peer.limited(1):
        assert seen == ["1", "--mine --xla_cpu_multi_thread_eigen=false"]
    assert environ["XLA_FLAGS"] == "--mine"
    assert "PJRT_NPROC" not in environ
    with pytest.raises(Cannot, match="JAX keeps the number of threads that it started with, 1"), peer.limited(2):
        pass


def test_what_a_peer_cannot_do_it_says() -> None:
    given = work.material(WORKS["gelu"], ({},))
    with pytest.raises(Cannot, match=r"^MyGrad has no exact GELU\.$"):
        MyGrad().task(WORKS["gelu"], given)
    with pytest.raises(Cannot, match=r"^MyGrad has no optimizer for this work\.$"):
        MyGrad().task(WORKS["mlp"], given)
    with pytest.raises(Cannot, match=r"^numpy-ml is compared layer by layer\.$"):
        NumpyML().task(WORKS["mlp"], given)
    with pytest.raises(Cannot, match=r"^numpy-ml has no max pooling in array code\.$"):
        NumpyML().task(WORKS["pool"], given)


def test_every_stage_of_the_cases_has_a_word() -> None:
    kinds = {stage.kind for case in cases.CASES.values() if case.work for stage in case.work.stages}
    for kind in kinds | {"gelu"}:
        nothing = type("Nothing", (peers.Peer,), {"title": "Nothing"})()
        with pytest.raises(Cannot, match="Nothing has no "):
            nothing.task(Work((1, 1, 2, 2), (Stage(kind),)), work.material(WORKS["loss"], ()))


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_missing_peer_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object) -> None:
        raise ModuleNotFoundError("No module named 'x'")

    monkeypatch.setattr(type(peers.make(name)), "imported", missing)
    if name == "torch":
        (sentence,) = peers.find()[1]
    else:
        with pytest.raises(PeerMissing) as found:
            peers.find([name])
        sentence = str(found.value)
    assert sentence.startswith(f"{peers.make(name).title} is not installed; to compare with it: ")
    assert "\n" not in sentence


def test_a_broken_peer_and_one_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise OSError("libx.so: cannot open")

    monkeypatch.setattr(NumpyML, "imported", broken)
    with pytest.raises(PeerMissing, match="numpy-ml cannot be imported; to compare with it: "):
        peers.find(["numpy-ml"])
    requirements.require_torch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PeerMissing, match=r"^torch\.compile needs a C\+\+ compiler"):
        peers.find(["torch-compile"])
    there, missing = peers.find(["torch", "torch", "numpy-ml"])
    assert [peer.name for peer in there] == ["torch"]
    assert len(missing) == 1


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown peer 'tensorflow': expected some of torch, torch-compile, jax"):
        peers.find(["tensorflow"])


def test_no_peer_is_imported_unless_it_is_asked_for() -> None:
    code = """
import sys
from uanref.bench import peers, session
from uanref.cli import main
for name in peers.PEERS:
    peers.make(name)
assert main(["bench", "--case", "import", "--against", "tensorflow"]) == 2
heavy = {"torch", "jax", "mygrad", "numpy_ml", "chainer"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
