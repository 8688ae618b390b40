"""``uanref check --norm``: a norm of the reader's own against its derivatives and everything that a layer promises."""

from __future__ import annotations

import sys

import pytest
from support import strictcp
from test_factories import GOOD, WRONG

from uanref import backend, factories
from uanref.cli import main
from uanref.verify import own

HEAD = "import numpy as np\nimport uanref as un\n\n\n"
MAKE = "\n\ndef make(num_features, rng):\n    return Mine(num_features)\n"
FAULTS = {
    "a wrong gradient": (
        "class Mine(un.LayerNorm):\n    def backward(self, dy):\n        return 1.00001 * super().backward(dy)\n",
        "gradient check of Mine (train mode) FAILED",
    ),
    "a wrong gradient in eval mode": (
        "class Mine(un.BatchNorm):\n    def backward(self, dy):\n"
        "        return (1 if self.training else 2) * super().backward(dy)\n",
        "gradient check of Mine (eval mode) FAILED",
    ),
    "a wrong gradient of a parameter": (
        "class Mine(un.LayerNorm):\n    def backward(self, dy):\n        dx = super().backward(dy)\n"
        "        self.gamma.grad = 2 * self.gamma.grad\n        return dx\n",
        "FAIL gamma",
    ),
    "writes into x": (
        "class Mine(un.LayerNorm):\n    def forward(self, x):\n        y = super().forward(x)\n        x += 1\n"
        "        return y\n",
        "forward writes into x",
    ),
    "float64 in float32's place": (
        "class Mine(un.LayerNorm):\n    def forward(self, x):\n        return super().forward(x).astype('float64')\n",
        "keeps shape and dtype",
    ),
    "another shape": (
        "class Mine(un.Layer):\n    def __init__(self, n):\n        super().__init__()\n"
        "    def forward(self, x):\n        self._keep(x)\n        return x[:, :3]\n"
        "    def backward(self, dy):\n        self._take(dy)\n        return dy\n",
        "keeps shape and dtype",
    ),
    "no backward": (
        "class Mine(un.Layer):\n    def __init__(self, n):\n        super().__init__()\n"
        "    def forward(self, x):\n        return x\n",
        "does not define backward",
    ),
    "fails in forward": (
        "class Mine(un.LayerNorm):\n    def forward(self, x):\n        return [][1]\n",
        "failed at mine.py:7: IndexError",
    ),
    "exits in forward": (
        "import sys\nclass Mine(un.LayerNorm):\n    def forward(self, x):\n        sys.exit(0)\n",
        "failed at mine.py:8: SystemExit",
    ),
    "takes nothing": (
        "class Mine(un.LayerNorm):\n    def forward(self, x):\n        raise ValueError('planted')\n",
        "ValueError: planted",
    ),
    "fails on images alone": (
        "class Mine(un.LayerNorm):\n    def forward(self, x):\n"
        "        return super().forward(x) if x.ndim == 2 else [][1]\n",
        "mine.py:make (3, 16, 2, 3), definition: ",
    ),
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


def test_a_right_norm_passes(mine, capsys):
    assert main(["check", "--norm", "mine.py:make"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for shape in ("(5, 16)", "(3, 16, 2, 3)"):
        assert any(line.startswith(f"mine.py:make {shape}") and "ok" in line for line in out.splitlines())
    assert "2 checked, all passed" in out
    assert "arguments are not written to" in out
    assert max(map(len, out.splitlines()[:6])) <= 80


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_failed_check(mine, capsys, fault):
    source, words = FAULTS[fault]
    mine.write_text(HEAD + source + MAKE)
    assert main(["check", "--norm", "mine.py:make", "--versions", "definition"]) == 1
    out, err = capsys.readouterr()
    assert words in out
    assert err.endswith("checks failed\n")
    assert err.count("\n") == 1
    assert "Traceback" not in out


# Whatever keeps the function from making a layer is bad input; what its layer does wrong is a failed check.
MADE = {"no backward", "index error in forward", "another shape", "no gradient"}


@pytest.mark.parametrize("source", sorted(WRONG.keys() - MADE))
def test_a_function_that_makes_no_layer_is_one_sentence(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    text, word = WRONG[source]
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    assert main(["check", "--norm", "mine.py:make"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("uanref: ")
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.parametrize("source", sorted(MADE))
def test_a_layer_that_fails_is_a_failed_check(mine, capsys, source):
    text, word = WRONG[source]
    mine.write_text(text)
    assert main(["check", "--norm", "mine.py:make"]) == 1
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--norm", "bn"], "is of the package"),
        (["--norm", "none"], "is of the package"),
        (["--norm", "layernorm"], "a function of your own"),
        (["--norm", "mine.py"], "mine.py:make"),
        (["--norm", ""], "a function of your own"),
        (["--norm", "other.py:make"], "there is no file other.py"),
        (["--norm", "no_such_package.norms:make"], "is it installed?"),
        (["--norm", "mine.py:make", "--only", "ReLU"], "leave one out"),
        (["--norm", "mine.py:make", "--versions", "slow"], "unknown version"),
    ],
)
def test_bad_input_is_one_sentence(mine, capsys, arguments, words):
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_an_input_that_is_refused_is_said_and_left_out(mine, capsys):
    mine.write_text(HEAD + "def make(num_features, rng):\n    return un.InstanceNorm(num_features)\n")
    assert main(["check", "--norm", "mine.py:make"]) == 0
    out = capsys.readouterr().out
    assert "1 checked, all passed" in out
    assert "Not checked: mine.py:make (5, 16) failed: ValueError: InstanceNorm needs more than one spatial" in out


def test_channels_are_those_that_the_norm_takes():
    few, _ = own.cases(factories.find(lambda c, rng: __import__("uanref").GroupNorm(32, c)))
    assert [case.shape for case in few] == [(5, 64), (3, 64, 2, 3)]


@pytest.mark.parametrize("kind", ["MixtureNorm(n, rng=rng)", "UAN(n, rng=rng)", "UANPublic(n, 3, rng=rng)"])
def test_norms_of_the_package_pass_in_the_readers_function(mine, kind, capsys):
    mine.write_text(HEAD + f"def make(n, rng):\n    return un.{kind}\n")
    assert main(["check", "--norm", "mine.py:make", "--versions", "fast", "--plain"]) == 0
    assert "| mine.py:make (5, 16)" in capsys.readouterr().out


def test_an_installed_package_is_checked(tmp_path, monkeypatch, capsys):
    package = tmp_path / "norms_of_mine_checked"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "--norm", "norms_of_mine_checked.layers:make", "--versions", "definition"]) == 0
    assert "norms_of_mine_checked.layers:make" in capsys.readouterr().out.replace("\n", "")
    monkeypatch.delitem(sys.modules, "norms_of_mine_checked.layers")
    monkeypatch.delitem(sys.modules, "norms_of_mine_checked")


def test_on_a_device_it_is_held_against_the_host(mine, strict_cupy: strictcp.Device, capsys):
    with backend.plain():
        assert main(["check", "--backend", "cupy", "--norm", "mine.py:make"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "| mine.py:make (3, 16, 2, 3)" in out
        assert "2 checked, all passed. Largest difference from the definition on NumPy" in out
        host_only = (
            "class Mine(un.LayerNorm):\n    def forward(self, x):\n        return super().forward(np.asarray(x))\n"
        )
        mine.write_text(HEAD + host_only + MAKE)
        assert main(["check", "--backend", "cupy", "--norm", "mine.py:make"]) == 1
    assert "2 of 2 checks failed" in capsys.readouterr().err
