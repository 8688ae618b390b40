"""A norm of the reader's own: in every command, in worker processes, in checkpoints; and the ways to get it wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import uanref as un
from uanref import factories, models
from uanref.cli import main
from uanref.experiments import compare
from uanref.experiments.compare import Settings
from uanref.training.checkpoint import CheckpointError

GOOD = "import uanref as un\n\n\ndef make(num_features, rng):\n    return un.LayerNorm(num_features)\n"
TINY = {"model": "mlp", "epochs": 1, "seeds": 2}
TRAIN = ["train", "--model", "mlp", "--schedule", "constant", "--quiet"]
RESUME = ["train", "--resume", "a.npz", "--quiet"]


def make(num_features, rng):
    return un.LayerNorm(num_features)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


def accuracies(settings, jobs):
    found = compare.run(settings, compare.try_out(settings), jobs)
    assert found.failed == []
    return [(one.norm, one.seed, one.test_accuracy) for one in found.runs]


def refused(capsys, arguments, *words):
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("uanref: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def test_processes_compute_what_this_one_does(mine):
    settings = Settings(norms=("ln", "mine.py:make", make, lambda c, rng: un.LayerNorm(c)), **TINY)
    alone = accuracies(settings, 1)
    assert accuracies(settings, 2) == alone
    by_norm = {norm: [a for n, _, a in alone if n == norm] for norm in settings.norms}
    assert len(by_norm) == 4
    # Same layers, same numbers: LayerNorm draws nothing.
    assert len({tuple(found) for found in by_norm.values()}) == 1


def test_compare_tells_label_and_digest(mine, tmp_path, capsys):
    arguments = ["compare", "--model", "mlp", "--epochs", "1", "--seeds", "1", "--jobs", "1", "--quiet"]
    assert main([*arguments, "--norms", "bn,mine.py:make", "--out", "r"]) == 0
    assert "mine.py:make" in capsys.readouterr().out
    results = json.loads((tmp_path / "r" / "results.json").read_text("utf-8"))
    assert results["factories"] == {"mine.py:make": factories.find("mine.py:make").digest}
    assert [run["norm"] for run in results["runs"]] == ["bn", "mine.py:make"]
    assert {path.name for path in (tmp_path / "r").glob("*.png")} == {"activations.png", "curves.png", "gradients.png"}


def test_labels_tell_files_and_lambdas_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(GOOD)
    given = [f"{tmp_path}/a/mine.py:make", "bn", f"{tmp_path}/b/mine.py:make"]
    assert Settings(norms=tuple(given)).norms == ("a/mine.py:make", "bn", "b/mine.py:make")
    two = Settings(norms=(lambda c, rng: un.LayerNorm(c), lambda c, rng: un.BatchNorm(c)))
    assert len(set(two.norms)) == 2
    with pytest.raises(ValueError, match="listed twice"):
        Settings(norms=(given[0], "bn", given[0]))
    with pytest.raises(ValueError, match="listed twice"):
        Settings(norms=(make, make))


def test_paths_with_commas_and_spaces(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b,c.py").write_text(GOOD)
    arguments = ["compare", "--model", "mlp", "--epochs", "1", "--seeds", "1", "--jobs", "1", "--quiet", "--out", "r"]
    assert main([*arguments, "--norms", "bn,a b,c.py:make,none"]) == 0
    assert "a b,c.py:make" in capsys.readouterr().out


def test_a_checkpoint_never_runs_it_and_takes_it_again(mine, capsys):
    assert main([*TRAIN, "--norm", "mine.py:make", "--epochs", "1", "--save", "a.npz"]) == 0
    mine.write_text("raise SystemExit('it was run')\n")
    capsys.readouterr()

    with pytest.raises(CheckpointError, match=r"norm of your own, mine\.py:make"):
        un.load("a.npz")
    refused(capsys, [*RESUME, "--epochs", "2"], "--norm mine.py:make", "does not run")
    refused(capsys, ["evaluate", "a.npz"], "--norm mine.py:make")
    mine.write_text(GOOD)
    x = np.zeros((2, 1, 8, 8), "float32")
    assert un.load("a.npz", norm="mine.py:make").forward(x).shape == (2, 10)

    assert main([*RESUME, "--norm", "mine.py:make", "--epochs", "2", "--save", "b.npz"]) == 0
    assert main([*TRAIN, "--norm", "mine.py:make", "--epochs", "2", "--save", "c.npz"]) == 0
    resumed, straight = (un.load(name, norm="mine.py:make").state_dict() for name in ("b.npz", "c.npz"))
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value)

    capsys.readouterr()
    mine.write_text(GOOD + "# another digest\n")
    refused(capsys, [*RESUME, "--norm", "mine.py:make", "--epochs", "2"], "digest", "restore it")
    assert main(["evaluate", "a.npz", "--norm", "mine.py:make"]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert "another digest" in err
    with pytest.warns(UserWarning, match="another digest"):
        un.load("a.npz", norm="mine.py:make")


def test_a_checkpoint_of_a_named_norm_takes_none(mine, capsys):
    assert main([*TRAIN, "--norm", "bn", "--epochs", "1", "--save", "a.npz"]) == 0
    capsys.readouterr()
    refused(capsys, ["evaluate", "a.npz", "--norm", "mine.py:make"], "'bn'", "leave norm out")


def test_build_keeps_json_and_takes_the_function_again():
    size = {"image_shape": (1, 8, 8), "num_classes": 10, "seed": 3, "dtype": "float64"}
    model = models.build("cnn", make, **size)
    config = json.loads(json.dumps(model.config))
    assert config["norm"]["factory"].endswith(":make")
    with pytest.raises(ValueError, match="pass norm="):
        models.build(**config)
    again = models.build(**config | {"norm": make})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)


def test_what_a_process_cannot_be_sent_is_said():
    import threading

    lock = threading.Lock()

    def locked(num_features, rng):
        with lock:
            return un.LayerNorm(num_features)

    settings = Settings(norms=(locked, "ln"), **TINY)
    splits = compare.try_out(settings)
    found = compare.run(settings, splits, 2)
    assert len(found.failed) == 2
    assert all("jobs=1" in sentence for sentence in found.failed)
    assert [run.norm for run in found.runs] == ["ln", "ln"]  # the other norm's go on
    assert len(compare.run(settings, splits, 1).runs) == 4


WRONG = {
    "missing": (None, "there is no file"),
    "empty": ("", "has no make"),
    "syntax": ("def make(:\n", "line 1"),
    "null character": ("x = 1\0\n", "null"),
    "fails at import": ("x = 1\nraise ZeroDivisionError('planted')\n", "mine.py:2: ZeroDivisionError: planted"),
    "exits": ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit"),
    "missing import": ("import no_such_module_here\n", "no_such_module_here"),
    "not callable": ("make = 3\n", "is no function but int"),
    "one argument": ("def make(num_features): pass\n", "takes (num_features)"),
    "three arguments": ("def make(a, b, c): pass\n", "takes (a, b, c)"),
    "a class": ("from uanref import UAN as make\n", "wrap it"),
    "raises": ("def make(n, rng):\n    raise RuntimeError('no\\nluck')\n", "mine.py:2: RuntimeError: no luck"),
    "None": ("def make(n, rng): pass\n", "is a return missing"),
    "returns a class": ("import uanref as un\ndef make(n, rng): return un.LayerNorm\n", "the class LayerNorm"),
    "returns a number": ("def make(n, rng): return 3\n", "int, no Layer"),
    "the same layer": ("import uanref as un\nl = un.LayerNorm(64)\ndef make(n, rng): return l\n", "twice"),
    "a shared parameter": (
        "import uanref as un\np = un.LayerNorm(64).gamma\n"
        "def make(n, rng):\n    l = un.LayerNorm(n)\n    l.gamma = p\n    return l\n",
        "the same Parameter in two places",
    ),
    "draws from elsewhere": (
        "import numpy as np\nimport uanref as un\ndef make(n, rng): return un.UAN(n, rng=np.random.default_rng())\n",
        "draw from rng alone",
    ),
    "no backward": (
        "import uanref as un\nclass N(un.Layer):\n    def forward(self, x): return x\ndef make(n, rng): return N()\n",
        "does not define backward",
    ),
    "index error in forward": (
        "import uanref as un\nclass N(un.Layer):\n    def forward(self, x): return [][1]\n"
        "def make(n, rng): return N()\n",
        "mine.py:3: IndexError",
    ),
    "another shape": (
        "import uanref as un\nclass N(un.Layer):\n    def forward(self, x): return x[:, :3]\n"
        "def make(n, rng): return N()\n",
        "keeps shape and dtype",
    ),
    "no gradient": (
        "import uanref as un\nclass N(un.LayerNorm):\n    def backward(self, dy): return dy\n"
        "def make(n, rng): return N(n)\n",
        "leaves no gradient for gamma",
    ),
}


@pytest.mark.parametrize("source", WRONG)
def test_a_wrong_factory_is_one_sentence(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    text, word = WRONG[source]
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    refused(capsys, ["compare", "--model", "mlp", "--norms", "bn,mine.py:make", "--out", "r"], word)
    refused(capsys, [*TRAIN, "--norm", "mine.py:make"], word)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("mine.py", "mine.py:make"),
        ("mine.py:", "mine.py:make"),
        (":make", "names no file"),
        ("mine.py:a b", "names no function"),
        ("C:\\mine.py", "names no function"),
        ("C:\\mine.py:make", "there is no file"),
        (".:make", "is a folder"),
        ("./:make", "is a folder"),
        ("/dev/null:make", "is a device"),
        ("no_such_package.norms:make", "is it installed?"),
        ("other.txt:make", "must end with .py"),
        ("layernorm", "uan-learned"),
        ("a\0.py:make", "there is no file"),
    ],
)
def test_a_wrong_name_is_one_sentence(mine, capsys, given, word):
    mine.with_name("other.txt").write_text("")
    refused(capsys, [*TRAIN, "--norm", given], word)


def test_the_command_line_in_a_process_of_its_own(mine):
    command = [
        sys.executable,
        "-m",
        "uanref",
        "compare",
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--jobs",
        "2",
    ]
    done = subprocess.run(
        [*command, "--norms", "none,mine.py:make", "--out", "r", "--quiet"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "mine.py:make" in done.stdout
