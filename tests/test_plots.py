"""The pictures: what they draw, and that they survive runs that went wrong."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from uanref import plots
from uanref.models import NORMS
from uanref.plots import intervals, style
from uanref.plots.curves import curves as small_multiples
from uanref.training.history import Epoch, History


def _curve(epochs, start=0.5):
    accuracy = np.linspace(start, 0.98, epochs) if epochs else np.array([])
    return {"train_loss": np.exp(-np.arange(epochs) / 3.0), "validation_accuracy": accuracy}


def _activations(norm="uan", channels=2, components=3):
    rng = np.random.default_rng(0)
    return plots.Activations(
        norm=norm,
        channels=tuple(range(channels)),
        samples=rng.standard_normal((channels, 500)),
        weights=np.full((components, channels), 1.0 / components),
        means=rng.standard_normal((components, channels)),
        variances=np.full((components, channels), 0.5),
    )


def test_every_norm_has_a_colour_of_its_own():
    assert set(plots.COLORS) == set(NORMS)
    assert len(set(plots.COLORS.values())) == len(NORMS)


def test_curves_draw_the_mean_and_the_range():
    runs = [_curve(4, 0.4), _curve(4, 0.6)]
    figure = plots.curves({"lr 0.1": {"bn": runs}}, "a title")
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), runs[0]["train_loss"])
    np.testing.assert_allclose(right.lines[0].get_ydata(), 100 * np.linspace(0.5, 0.98, 4))
    np.testing.assert_allclose(right.lines[0].get_xdata(), [1, 2, 3, 4])
    band = right.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(40)
    assert "loss" in left.get_ylabel()
    assert "%" in right.get_ylabel()


def test_curves_of_runs_of_unlike_lengths():
    figure = plots.curves({"lr 0.1": {"bn": [_curve(4), _curve(2), _curve(0)], "none": [_curve(0)]}}, "t")
    left, _ = figure.axes
    assert len(left.lines) == 1
    assert len(left.lines[0].get_ydata()) == 4


def test_curves_have_a_row_per_learning_rate():
    by_norm = {"bn": [_curve(1)], "uan": [_curve(1)]}
    figure = plots.curves({"lr 0.1": by_norm, "lr 0.01": by_norm}, "t")
    assert [axis.get_title() for axis in figure.axes] == ["lr 0.1", "lr 0.1", "lr 0.01", "lr 0.01"]


def test_curves_of_many_norms_are_small_multiples():
    norms = list(NORMS)[:6]
    runs = {norm: [_curve(4, 0.3 + 0.1 * at), _curve(4, 0.35 + 0.1 * at)] for at, norm in enumerate(norms)}
    figure = plots.curves({"lr 0.1": runs}, "t")
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == 2 * norms  # loss, then accuracy
    for axis, norm in zip(panels, 2 * norms, strict=True):
        *others, own = axis.lines
        assert len(others) == len(norms) - 1
        assert {line.get_color() for line in others} == {plots.GREY}
        assert own.get_color() == plots.COLORS[norm]
        assert len(axis.collections) == 1  # the band is the panel's own
        field, factor = ("train_loss", 1) if axis in panels[: len(norms)] else ("validation_accuracy", 100)
        np.testing.assert_allclose(own.get_ydata(), factor * np.mean([run[field] for run in runs[norm]], axis=0))
    for half in (panels[: len(norms)], panels[len(norms) :]):
        assert len({axis.get_ylim() for axis in half}) == 1


def test_a_notebook_has_the_tutorials_style():
    with matplotlib.rc_context():
        plots.notebook_style()
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        assert cycle[0] == plots.COLORS["bn"]
        assert cycle[1] == plots.COLORS["uan"]
        assert len(set(cycle)) == 6
        assert not matplotlib.rcParams["axes.spines.top"]


def test_activations_draw_components_their_sum_and_the_gaussian():
    row = _activations()
    figure = plots.activations([row], "t")
    axis = figure.axes[0]
    gaussian, *components, total = axis.lines
    assert len(components) == 3
    np.testing.assert_allclose(total.get_ydata(), sum(line.get_ydata() for line in components))
    # Each is a density over the shown range, as is the histogram: areas are near 1.
    grid = gaussian.get_xdata()
    assert np.trapezoid(gaussian.get_ydata(), grid) == pytest.approx(1.0, abs=0.02)
    mean = row.samples[0].mean()
    assert grid[np.argmax(gaussian.get_ydata())] == pytest.approx(mean, abs=0.05)
    bars = sum(bar.get_width() * bar.get_height() for bar in axis.patches)
    assert bars == pytest.approx(1.0)


def test_activations_of_bn_show_the_gaussian_alone():
    figure = plots.activations([_activations("bn", components=1)], "t")
    assert len(figure.axes[0].lines) == 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any("component" in label for label in labels)


def test_activations_of_a_dead_channel():
    row = _activations("bn", channels=1, components=1)
    row.samples[:] = 0.0
    axis = plots.activations([row], "t").axes[0]
    assert len(axis.lines) == 0


def test_gradients_have_a_panel_per_norm_and_a_line_per_layer():
    times = np.arange(1, 4)
    lines = {"1 Linear": (times, np.array([3.0, 2.0, 1.0])), "2 Linear": (times, np.array([1.0, np.nan, 0.1]))}
    figure = plots.gradients({"lr 0.1": {"bn": lines, "uan": lines}}, "t")
    assert [axis.get_title() for axis in figure.axes] == ["bn", "uan"]
    for axis in figure.axes:
        assert axis.get_yscale() == "log"
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [3.0, 2.0, 1.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1 Linear", "2 Linear"]


def test_many_norms_wrap_into_rows():
    lines = {"1 Linear": (np.arange(1, 4), np.array([3.0, 2.0, 1.0]))}
    figure = plots.gradients({"lr 0.1": {f"norm {i}": lines for i in range(11)}}, "t")
    shown = [axis.get_title() for axis in figure.axes if axis.axison]
    assert shown == [f"norm {i}" for i in range(11)]
    assert {axis.get_subplotspec().get_gridspec().ncols for axis in figure.axes} == {4}
    width, height = figure.get_size_inches()
    assert width < 1.5 * height


def test_save_writes_the_promised_size_and_no_temporary_file(tmp_path):
    figure = plots.curves({"lr 0.1": {"bn": [_curve(3)]}}, "t")
    plots.save(figure, tmp_path / "curves.png")
    height, width, _ = imread(tmp_path / "curves.png").shape
    assert (width, height) == tuple(round(inches * plots.DPI) for inches in figure.get_size_inches())
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_save_leaves_the_old_picture_if_drawing_fails(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    figure = plots.curves({"lr 0.1": {"bn": [_curve(3)]}}, "t")

    def fail(self, stream, **options):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(plots.FigureCanvasAgg, "print_figure", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["curves.png"]


def test_drawing_leaves_the_global_state_alone():
    before = dict(matplotlib.rcParams)
    plots.activations([_activations()], "t")
    assert dict(matplotlib.rcParams) == before


def _history(epochs):
    made = History()
    for n in range(1, epochs + 1):
        made.epochs.append(Epoch(n, 1.0 / n, 1 - 0.5 / n, 2.0 / n, 1 - 0.6 / n, 0.1, 0.1))
    return made


def test_a_history_draws_loss_and_accuracy_of_training_and_validation(tmp_path):
    made = _history(5)
    figure = plots.history(made, tmp_path / "h.png", title="a $ in a path, and another $")
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), made.curve("train_loss"))
    np.testing.assert_allclose(left.lines[1].get_ydata(), made.curve("validation_loss"))
    np.testing.assert_allclose(right.lines[0].get_ydata(), 100 * np.array(made.curve("train_accuracy")))
    np.testing.assert_allclose(right.lines[1].get_ydata(), 100 * np.array(made.curve("validation_accuracy")))
    np.testing.assert_array_equal(right.lines[1].get_xdata(), [1, 2, 3, 4, 5])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]
    assert imread(tmp_path / "h.png").shape[2] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["h.png"]


def test_a_history_of_one_epoch_counts_in_whole_epochs():
    left, _ = plots.history(_history(1)).axes
    assert [tick for tick in left.get_xticks() if 0.5 <= tick <= 1.5] == [1.0]


def test_a_history_with_numbers_that_are_not_finite(tmp_path):
    made = _history(3)
    made.epochs[1] = Epoch(2, math.nan, 0.5, math.inf, 0.5, 0.1, 0.1)
    left, _ = plots.history(made, tmp_path / "h.png").axes
    assert np.isnan(left.lines[0].get_ydata()[1])


def test_a_history_without_epochs_says_so():
    with pytest.raises(ValueError, match="holds no epoch yet"):
        plots.history(History())


def test_text_that_is_not_ours_is_drawn_as_it_is_or_with_question_marks():
    assert style.plain("Größe_1 $x$") == r"Größe_1 \$x\$"
    assert style.plain("a\N{CJK UNIFIED IDEOGRAPH-65E5}b") == "a?b"
    assert style.shown("_mine.py:make") == " _mine.py:make"


LINE = [(1.0, 2.0, 1.0, 3.0), (2.0, 4.0, 3.0, 5.0)]


def _small(tmp_path, panels, **options):
    return small_multiples(panels, tmp_path / "c.png", x_label="updates", y_label="accuracy (%)", **options)


def test_small_multiples_have_a_panel_a_title_one_legend_and_the_norms_own_colours(tmp_path):
    figure = _small(tmp_path, {"a": {"bn": LINE, "mine": LINE}, "b": {"uan": LINE}}, title="t")
    left, right = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    np.testing.assert_array_equal(left.lines[0].get_xydata(), [[1, 2], [2, 4]])
    assert left.lines[0].get_color() == plots.COLORS["bn"]
    assert right.lines[0].get_color() == plots.COLORS["uan"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["bn", "mine", "uan"]
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 5.0)
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("updates", "accuracy (%)", "")
    assert imread(tmp_path / "c.png").shape[1] == round(figure.get_size_inches()[0] * plots.DPI)


def test_lines_of_small_multiples_differ_without_colour(tmp_path):
    labels = [*NORMS, "a", "b"]
    axis = _small(tmp_path, {"p": dict.fromkeys(labels, LINE)}).axes[0]
    drawn = [line for line in axis.lines if len(line.get_xdata())]
    assert len({(line.get_marker(), line.get_linestyle()) for line in drawn}) >= len(NORMS)


def test_many_small_multiples_wrap_and_share_an_axis_unless_told_not_to(tmp_path):
    panels = {f"p{i}": {"bn": [(1.0, float(i), i - 1.0, i + 1.0)]} for i in range(1, 6)}
    figure = _small(tmp_path, panels)
    assert [axis.get_title() for axis in figure.axes if axis.axison] == list(panels)
    assert all(axis.get_ylim() == pytest.approx((-0.14, 6.14)) for axis in figure.axes[:5])
    apart = _small(tmp_path, panels, share=False)
    assert len({axis.get_ylim() for axis in apart.axes[:5]}) == 5


def test_what_is_infinite_stands_open_at_the_top_and_bands_end_at_the_edge(tmp_path):
    line = [(1.0, 10.0, 10.0, math.inf), (2.0, math.inf, 20.0, math.inf), (3.0, math.nan, math.nan, math.nan)]
    axis = _small(tmp_path, {"p": {"bn": line}}).axes[0]
    drawn, beyond = axis.lines
    np.testing.assert_array_equal(drawn.get_ydata(), [10.0, math.nan, math.nan])
    np.testing.assert_array_equal(beyond.get_xydata(), [[2.0, axis.get_ylim()[1]]])
    assert beyond.get_markerfacecolor() == "none"
    assert axis.collections[0].get_paths()[0].vertices[:, 1].max() == axis.get_ylim()[1] < math.inf


def test_logarithms_leave_out_what_they_do_not_know(tmp_path):
    line = [(1.0, 0.0, -1.0, 1.0), (10.0, 100.0, 1.0, 1000.0)]
    axis = _small(tmp_path, {"p": {"bn": line}}, x_log=True, y_log=True).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [math.nan, 100.0])
    assert 0 < axis.get_ylim()[0] < 1


@pytest.mark.parametrize("line", [[], [(1.0, math.inf, math.inf, math.inf)], [(1.0, 5.0, 5.0, 5.0)]])
@pytest.mark.parametrize("log", [False, True])
def test_small_multiples_of_little(tmp_path, line, log):
    low, high = _small(tmp_path, {"p": {"bn": line}}, y_log=log).axes[0].get_ylim()
    assert low < high


def test_small_multiples_of_nothing_say_so(tmp_path):
    with pytest.raises(ValueError, match="no panel"):
        _small(tmp_path, {})


def test_the_name_of_the_module_hides_no_picture():
    assert plots.curves.__module__ == "uanref.plots.training"


def test_intervals_are_drawn_from_the_top_down(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(intervals, "save", lambda figure, path: drawn.append((figure, path)))
    rows = [("uan - bn", 1.0, 0.5, 2.0), ("ln - bn", 0.0, -math.inf, math.inf), ("none yet", math.nan, 0.0, 0.1)]
    intervals.intervals(rows, tmp_path / "x.png", x_label="accuracy (points)", title="at $5", margin=0.25)
    (figure, path), *_ = drawn
    axis = figure.axes[0]
    assert path == tmp_path / "x.png"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["uan - bn", "ln - bn", "none yet"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first row is the highest
    lines = {(*line.get_xdata(), *line.get_ydata()) for line in axis.lines}
    assert (0.5, 2.0, 0, 0) in lines
    assert (1.0, 0) in lines
    assert (0.25, 0.25, 0, 1) in lines
    assert (*axis.get_xlim(), 1, 1) in lines  # an end that is not finite reaches the edge
    assert not any(2 in line.get_ydata() for line in axis.lines)
    assert axis.get_xlabel() == "accuracy (points)"


def test_intervals_write_a_picture(tmp_path):
    intervals.intervals([("a", 1.0, 0.5, 2.0)], tmp_path / "x.png", x_label="x")
    intervals.intervals([], tmp_path / "empty.png", x_label="x")
    assert imread(tmp_path / "x.png").std() > 0
    assert (tmp_path / "empty.png").exists()


def test_a_short_logarithm_names_its_places(tmp_path):
    few, many = ([(float(x), 1.0, 0.5, 2.0) for x in places] for places in ((2, 8, 32), range(1, 20)))
    axis = _small(tmp_path, {"p": {"bn": few}}, x_log=True).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["2", "8", "32"]
    axis = _small(tmp_path, {"p": {"bn": many}}, x_log=True).axes[0]
    assert len(axis.get_xticks()) < 19
