"""Vectors for porters: the same bytes every time, and right by a plain NumPy re-computation from the README."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from support import unprivileged

from uanref import backend, norms
from uanref.cli import main
from uanref.verify import vectors
from uanref.verify.vectors import DTYPES, TOLERANCE, formats
from uanref.verify.vectors import folder as writing

CASES = vectors.cases()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run of the command that several tests look at."""
    folder = tmp_path_factory.mktemp("vectors") / "new" / "vectors"
    assert main(["vectors", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    """The arrays of all cases, as read from the archives."""
    found = {}
    for case in CASES:
        with np.load(folder / f"{case.name}.npz", allow_pickle=False) as arrays:
            found[case.name] = dict(arrays)
    return found


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- the list and the files -----------------------------------------------------------------------


def test_every_norm_and_option_has_a_case():
    assert len({case.name for case in CASES}) == len(CASES)
    package = os.path.dirname(norms.__file__)
    modules = {"batch", "layer", "group", "instance", "uan", "mixture", "mode", "uan_public"}
    mixture = {f"mixture_{part}" for part in ("constraints", "em", "moments", "transform", "weights")}
    helpers = {"__init__", "affine", "standardize"} | mixture
    present = {name.removesuffix(".py") for name in os.listdir(package) if name.endswith(".py")}
    assert {case.norm.__module__.rpartition(".")[2] for case in CASES} == modules == present - helpers
    uan = [case for case in CASES if case.norm.__name__ == "UAN"]
    switches = ("posterior", "statistics", "update", "start", "rescale", "affine")
    seen = {(*(case.all_options()[name] for name in switches), case.mode) for case in uan}
    assert len(seen) == 2**7
    switches = ("posterior", "prior", "statistics", "inference", "update")
    seen = {(*(case.all_options()[name] for name in switches), case.mode) for case in uan}
    assert len(seen) == 2**6
    for norm in {case.norm for case in CASES}:  # no option stays at its default everywhere
        options = [case.all_options() for case in CASES if case.norm is norm]
        for name in options[0]:
            varied = len({str(option[name]) for option in options}) > 1
            assert varied or name in ("num_features", "num_channels"), (norm.__name__, name)
    assert {len(case.shape) for case in CASES} == {2, 3, 4}


def test_files_are_complete_small_and_of_one_mind(folder, loaded):
    written = files_in(folder)
    names = {f"{case.name}{suffix}" for case in CASES for suffix in (".npz", ".json")}
    assert {name.replace(os.sep, "/") for name in written} == names | {"README.md", "cases.json", "uan_torch.py"}
    # Every case of UAN is about 9 kB; 48 of them are of a shared prior or of inference by the mixture.
    assert sum(map(len, written.values())) < 2_500_000
    for case, listed in zip(CASES, json.loads((folder / "cases.json").read_bytes())["cases"], strict=True):
        content = json.loads((folder / f"{case.name}.json").read_bytes())
        arrays = loaded[case.name]
        assert content["name"] == case.name == listed["name"]
        assert content["options"] == case.all_options() == listed["options"]
        assert tuple(listed["shape"]) == arrays["x"].shape == case.shape
        assert list(content["arrays"]) == list(arrays)
        for name, value in arrays.items():
            read = np.array(content["arrays"][name], dtype=value.dtype)  # to the bit, float32 included
            assert read.tobytes() == value.tobytes(), (case.name, name)
            assert read.shape == value.shape


def test_arrays_have_the_dtypes_and_shapes_that_the_readme_tells(loaded):
    for case in CASES:
        arrays = loaded[case.name]
        for name, value in arrays.items():
            first, _, rest = name.partition("/")
            assert value.dtype == ("bool" if "initialized" in name else first if first in DTYPES else "float64")
            kind, _, entry = rest.partition("/")
            like = f"before/{entry}" if kind in ("grad", "after", "fit") else "x" if first in DTYPES else name
            assert value.shape == arrays[like].shape, (case.name, name)
            if first not in DTYPES and value.dtype != bool:
                assert np.array_equal(value, value.astype("float32")), "inputs are the same numbers in float32"
        if case.mode == "eval":
            assert not any("/after/" in name for name in arrays)
        assert not np.array_equal(arrays["float64/dx"], arrays["dy"])


def test_float32_is_as_close_to_float64_as_the_readme_asks(loaded):
    for case in CASES:
        arrays = loaded[case.name]
        for name in [name for name in arrays if name.startswith("float64/")]:
            close(arrays[name.replace("float64", "float32")], arrays[name], "float32", (case.name, name))


def close(found, expected, dtype, label):
    """The README's rule."""
    assert found.shape == expected.shape, label
    scale = max(1.0, float(np.max(np.abs(expected))))
    error = float(np.max(np.abs(found.astype("float64") - expected)))
    assert error <= TOLERANCE[dtype] * scale, (label, error / scale)


def test_archives_are_plain(folder):
    for path in folder.rglob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                assert entry.date_time == (1980, 1, 1, 0, 0, 0)
                assert entry.filename.endswith(".npy")
                assert b"|O" not in archive.read(entry)[:128]


# --- the same bytes -------------------------------------------------------------------------------


def test_a_second_run_and_another_process_write_the_same_bytes(folder, tmp_path):
    expected = files_in(folder)
    with backend.limit_threads(1):
        vectors.write(tmp_path / "again")
    assert files_in(tmp_path / "again") == expected
    environment = os.environ | {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "uanref", "vectors", "--out", "other"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE)
    assert files_in(tmp_path / "other") == expected


# --- a plain re-computation -----------------------------------------------------------------------
# Forward passes written from the README alone. They work in complex numbers, so that
# dL/dt = Im L(t + ih) / h gives every gradient without deriving one.


def spread(a, x):
    """Give ``(..., C)`` the axes to broadcast with ``(..., N, C, ...)``."""
    return a[..., None, :].reshape(a.shape[:-1] + (1, a.shape[-1]) + (1,) * (x.ndim - 2))


def over_samples(z, rank):
    """Sum ``(..., N, C, ...)`` over samples and space."""
    lead = z.ndim - rank
    return z.sum(axis=(lead, *range(lead + 2, z.ndim)))


def affine(y, state):
    return y if "gamma" not in state else y * spread(state["gamma"], y) + spread(state["beta"], y)


def batch_norm(x, state, options, mode, after):
    mean, var = state["running_mean"], state["running_var"]
    if mode == "train":
        samples, new = x.size // x.shape[1], options["momentum"]
        mean = over_samples(x, x.ndim) / samples
        var = over_samples((x - spread(mean, x)) ** 2, x.ndim) / samples
        after["running_mean"] = (1 - new) * state["running_mean"] + new * mean
        after["running_var"] = (1 - new) * state["running_var"] + new * var * samples / (samples - 1)
    return affine((x - spread(mean, x)) / np.sqrt(spread(var, x) + options["eps"]), state)


def sample_norm(groups):
    def forward(x, state, options, mode, after):
        parts = x.reshape(x.shape[0], groups(options, x), -1)
        centred = parts - parts.mean(axis=2, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + options["eps"])
        return affine(y.reshape(x.shape), state)

    return forward


def softmax(logits):
    e = np.exp(logits - logits.real.max(axis=0))
    return e / e.sum(axis=0)


def responsibilities(x, prior, mean, variance):
    """tau of components ``(K, ...)``; a prior ``(K, 1)`` with more channels is that of the joint posterior."""
    q, mu = spread(variance, x), spread(mean, x)
    terms = -0.5 * np.log(q) - (x - mu) ** 2 / (2 * q)  # (K, N, C, ...)
    if prior.shape[1] != mean.shape[1]:
        terms = terms.sum(axis=2, keepdims=True)
    return softmax(np.log(spread(prior, x)) + terms)


def weighted(x, tau):
    total = over_samples(tau, x.ndim)
    mean = over_samples(tau * x, x.ndim) / total
    return total, mean, over_samples(tau * (x - spread(mean, x)) ** 2, x.ndim) / total


def mixture_transform(x, tau, prior, mean, variance, rho, eps):
    x_hat = (x - spread(mean, x)) / np.sqrt(spread(variance, x) + eps)
    return rho * (tau / np.sqrt(spread(prior, x)) * x_hat).sum(axis=0)


def floored(prior):
    prior = np.maximum(prior.real, 1e-6)
    return prior / prior.sum(axis=0)


def uan(x, state, options, mode, after):
    state, eps, new = dict(state), options["eps"], options["momentum"]
    if options["start"] == "data" and mode == "train" and not state["initialized"]:
        samples = x.size // x.shape[1]
        channel_mean = over_samples(x.real, x.ndim) / samples  # the start is no part of the gradient
        channel_var = over_samples((x.real - spread(channel_mean, x)) ** 2, x.ndim) / samples
        # Where a gradient with respect to the new values is wanted, they are perturbed after the start.
        state["mean"] = channel_mean + 0.3 * np.sqrt(channel_var) * state["start_jitter"] + 1j * state["mean"].imag
        raw = np.log(np.expm1(channel_var)) + 0 * state["start_jitter"]
        state["raw_variance"] = raw + 1j * state["raw_variance"].imag
        after |= {"mean": state["mean"], "raw_variance": state["raw_variance"], "initialized": np.array(True)}
    prior, mu, sigma2 = softmax(state["prior_logits"]), state["mean"], np.log(1 + np.exp(state["raw_variance"]))
    if options["posterior"] == "channel":
        prior = prior + np.zeros(x.shape[1])  # a shared one serves every channel
    tau = responsibilities(x, prior, mu, sigma2 + eps)
    total, mean, variance = weighted(x, tau)
    if mode == "train" and options["update"] == "em":
        share = total / total.sum(axis=0)
        if options["prior"] == "shared":
            prior_moved, share = prior[:, :1], share.mean(axis=1, keepdims=True)
        else:
            prior_moved = prior
        moved = floored((1 - new) * prior_moved + new * share)
        sigma2_moved = np.maximum(((1 - new) * sigma2 + new * variance).real, eps)
        after |= {"prior_logits": np.log(moved), "mean": (1 - new) * mu + new * mean}
        after["raw_variance"] = np.log(np.expm1(sigma2_moved))
    if options["statistics"] == "learned" or (mode == "eval" and options["inference"] == "mixture"):
        mean, variance = mu, sigma2
    elif mode == "eval":
        mean, variance = state["running_mean"], state["running_var"]
    else:
        after["running_mean"] = (1 - new) * state["running_mean"] + new * mean
        after["running_var"] = (1 - new) * state["running_var"] + new * variance
    rho = options["num_components"] ** -0.5 if options["rescale"] else 1.0
    return affine(mixture_transform(x, tau, prior, mean, variance, rho, eps), state)


def mixture_norm(x, state, options, mode, after):
    eps, new = options["eps"], options["momentum"]
    prior, mu, sigma2 = (state[name].real for name in ("prior", "mean", "variance"))
    mean, variance = state["running_mean"], state["running_var"]
    if mode == "train":
        if state["initialized"]:
            for _ in range(options["em_steps"]):  # on the real part alone: the fit is a constant
                total, mu, sigma2 = weighted(x.real, responsibilities(x.real, prior, mu, sigma2 + eps))
                prior = floored(total / total.sum(axis=0))
            after |= {"fit/prior": prior, "fit/mean": mu, "fit/variance": sigma2}
        else:  # k-means++ is left out, as the README allows
            prior, mu, sigma2 = (state[f"fit/{name}"] for name in ("prior", "mean", "variance"))
            after["initialized"] = np.array(True)
        new_fit = new if state["initialized"] else 1.0
        for name, fitted in (("prior", prior), ("mean", mu), ("variance", sigma2)):
            after[name] = (1 - new_fit) * state[name] + new_fit * fitted
    tau = responsibilities(x, prior, mu, sigma2 + eps)
    if mode == "train":
        _, mean, variance = weighted(x, tau)
        after["running_mean"] = (1 - new) * state["running_mean"] + new * mean
        after["running_var"] = (1 - new) * state["running_var"] + new * variance
    return affine(mixture_transform(x, tau, prior, mean, variance, options["num_components"] ** -0.5, eps), state)


def mode_norm(x, state, options, mode, after):
    def mean_s(z):
        return z.reshape(*z.shape[:2], -1).mean(axis=2)

    mean, variance, new = state["running_mean"], state["running_var"], options["momentum"]
    gate = softmax(state["gate_weight"] @ mean_s(x).T + state["gate_bias"][:, None])  # (K, N)
    if mode == "train":
        share = gate / gate.sum(axis=1, keepdims=True)
        mean = share @ mean_s(x)
        variance = np.array([g @ mean_s((x - spread(m, x)) ** 2) for g, m in zip(share, mean, strict=True)])
        after["running_mean"] = (1 - new) * state["running_mean"] + new * mean
        after["running_var"] = (1 - new) * state["running_var"] + new * variance
    x_hat = (x - spread(mean, x)) / np.sqrt(spread(variance, x) + options["eps"])
    return affine((gate.reshape(gate.shape + (1,) * (x.ndim - 1)) * x_hat).sum(axis=0), state)


def uan_public(x, state, options, mode, after):
    eps, old = options["eps"], options["momentum"]
    space = tuple(range(3, x.ndim + 1))
    q = spread(np.log(1 + np.exp(state["variance"])) + eps, x)
    p = np.exp(-((x - spread(state["mean"], x)) ** 2) / (2 * q))
    tau = p / (p.sum(axis=0) + eps)
    h = tau / (spread(over_samples(tau, x.ndim), x) + eps)
    means = (h * x).mean(axis=space, keepdims=True) if space else h * x
    squares = (h * (h * x) ** 2).mean(axis=space, keepdims=True) if space else h * (h * x) ** 2
    terms = tau / np.sqrt(1 + eps) * (x - means) / np.sqrt(squares + eps)
    if mode == "train":
        samples = x.size // x.shape[1]
        mean = over_samples(terms, x.ndim) / samples
        variance = over_samples((terms - spread(mean, x)) ** 2, x.ndim) / samples
        prior = over_samples(tau, x.ndim).mean(axis=1, keepdims=True) / samples
        for name, moved in (("mean", mean), ("variance", variance), ("prior", prior)):
            after[name] = old * state[name] + (1 - old) * moved
    return terms.sum(axis=0)


PLAIN = {
    "BatchNorm": batch_norm,
    "LayerNorm": sample_norm(lambda options, x: 1),
    "GroupNorm": sample_norm(lambda options, x: options["num_groups"]),
    "InstanceNorm": sample_norm(lambda options, x: x.shape[1]),
    "UAN": uan,
    "MixtureNorm": mixture_norm,
    "ModeNorm": mode_norm,
    "UANPublic": uan_public,
}


def recompute(case, arrays):
    """Return y, dx, gradients and moved state of a case, from its inputs alone (and the fit on a first batch)."""
    inputs = {"x": arrays["x"], **{name[7:]: value for name, value in arrays.items() if name.startswith("before/")}}
    state = {name: value if value.dtype == bool else value + 0j for name, value in inputs.items()}
    if case.norm.__name__ == "MixtureNorm" and case.first_batch:
        state |= {name[8:]: value for name, value in arrays.items() if name.startswith("float64/fit/")}
    forward, options = PLAIN[case.norm.__name__], case.all_options()

    after = {}
    found = {"y": forward(state["x"], state, options, case.mode, after).real}
    found |= {name if "fit/" in name else f"after/{name}": value.real for name, value in after.items()}
    trained = [name[13:] for name in arrays if name.startswith("float64/grad/")]
    for name in ["x", *trained]:
        gradient = np.zeros(inputs[name].shape)
        for index in np.ndindex(gradient.shape):
            moved = state | {name: state[name].copy()}
            moved[name][index] += 1e-30j
            loss = (forward(moved["x"], moved, options, case.mode, {}) * arrays["dy"]).sum()
            gradient[index] = loss.imag / 1e-30
        found["dx" if name == "x" else f"grad/{name}"] = gradient
    return found


@pytest.mark.parametrize("norm", PLAIN)
def test_a_plain_recomputation_gives_the_same_outputs_gradients_and_state(norm, loaded):
    for case in [case for case in CASES if case.norm.__name__ == norm]:
        arrays = loaded[case.name]
        found = recompute(case, arrays)
        for dtype in DTYPES:
            expected = {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(dtype)}
            if case.first_batch:  # the fit was an input
                expected = {name: value for name, value in expected.items() if not name.startswith("fit/")}
            for name in sorted(found.keys() | expected.keys()):
                value = found[name]
                same = arrays.get(name.replace("after", "before"), value)  # what did not change is not in after
                close(expected.get(name, same), value, dtype, (case.name, dtype, name))
                assert name in expected or name.startswith("after/"), (case.name, name)


# --- the README -----------------------------------------------------------------------------------


def test_the_readme_runs_and_names_everything(folder, loaded):
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "@" not in readme
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("ok batch_norm/") == 2 * 4
    for norm in PLAIN:
        assert f"`{norm}`" in readme
    for word in {word for arrays in loaded.values() for name in arrays for word in name.split("/")}:
        assert re.search(rf"\b{word}\b", readme), word
    assert f"There are {len(CASES)} cases" in readme


# --- the command ----------------------------------------------------------------------------------


def assert_refused(capsys, out, *words, force=False):
    assert main(["vectors", "--out", str(out), *(["--force"] if force else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    for word in words:
        assert str(word) in captured.err, captured.err


@pytest.fixture
def few(monkeypatch):
    """Two cases: these tests are about folders."""
    monkeypatch.setattr(writing, "cases", lambda: CASES[:2])


def test_the_command_says_what_it_wrote(few, tmp_path, capsys):
    assert main(["vectors", "--out", str(tmp_path / "deep" / "v")]) == 0
    assert (
        capsys.readouterr().out
        == f"Written to {tmp_path / 'deep' / 'v'}: 2 cases, README.md, cases.json, uan_torch.py\n"
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["v"]


def test_an_empty_folder_is_taken(few, tmp_path):
    assert main(["vectors", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "batch_norm", "cases.json", "uan_torch.py"]


def test_a_folder_with_something_in_it_is_left_alone_unless_forced(few, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "README.md").write_text("old", encoding="utf-8")
    assert_refused(capsys, tmp_path, "--out", tmp_path, "not empty", "--force")
    assert len(files_in(tmp_path)) == 2
    assert main(["vectors", "--out", str(tmp_path), "--force"]) == 0
    written = files_in(tmp_path)
    assert written["mine.txt"] == b"mine"
    assert written["README.md"] == formats.readme_bytes(CASES[:2])
    assert len(written) == 1 + 3 + 2 * 2


def test_a_file_in_the_way_is_one_sentence(few, tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        for force in (False, True):
            assert_refused(capsys, out, f"--out {out}", "name a", force=force)
    assert files_in(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "file for a folder", "link for a folder"])
@pytest.mark.parametrize("name", ["first", "README.md", "uan_torch.py", "cases.json"])
def test_what_is_in_the_way_of_one_file_keeps_all_others_from_being_written(kind, name, few, tmp_path, capsys):
    """Whichever of the files it is, the last one too."""
    case = CASES[0].name
    target = tmp_path / (f"{case}.json" if name == "first" else name)
    if kind.endswith("for a folder"):
        target = target.parent if name == "first" else tmp_path / case.split("/")[0]
    target.parent.mkdir(exist_ok=True)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind.startswith("link"):
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("mine")
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert_refused(capsys, tmp_path, f"--out {tmp_path}", target.name, "name a", force=True)
    assert {path: path.lstat() for path in tmp_path.rglob("*")}.keys() == before.keys()
    assert not any(path.is_file() and path.name not in ("mine.txt", target.name) for path in tmp_path.rglob("*"))


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_an_inner_folder_without_permission_keeps_all_files_from_being_written(tmp_path):
    inner = tmp_path / "uan_public"  # of the last cases
    inner.mkdir()
    inner.chmod(stat.S_IRUSR | stat.S_IXUSR)
    tmp_path.chmod(0o777)
    done = unprivileged.run("vectors", "--force", "--out", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "uan_public cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == [inner]
    assert list(inner.iterdir()) == []
    inner.chmod(stat.S_IRWXU)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_without_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = unprivileged.run("vectors", "--out", str(tmp_path / "v"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot be written" in done.stderr
    assert "name another place" in done.stderr
    tmp_path.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_half_way_leaves_nothing(few, existed, tmp_path, capsys, monkeypatch):
    def fail(cases):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "list_bytes", fail)
    assert_refused(capsys, tmp_path if existed else tmp_path / "deep" / "v", "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_out_is_asked_for(capsys):
    assert main(["vectors"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["vectors", "--out", ""]) == 2
    assert "expected a name" in capsys.readouterr().err
