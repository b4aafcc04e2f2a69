"""What figures show, read off their axes: limits, ticks, legends, points."""

from contextlib import contextmanager

import numpy as np
import pytest

from mlffjax.plots import exploration, exploration_minima, observables
from mlffjax.plots.style import figure


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figures that are drawn, in order."""
    seen = []

    @contextmanager
    def kept(*args, **options):
        with figure(*args, **options) as made:
            seen.extend(np.atleast_1d(made).ravel())
            yield made

    for module in (exploration, exploration_minima, observables):
        monkeypatch.setattr(module, "figure", kept)
    return seen


def legend(ax) -> list[str]:
    return [] if ax.get_legend() is None else [t.get_text() for t in ax.get_legend().get_texts()]


def test_a_path_shows_all_of_its_line(axes, tmp_path):
    """Between two images the line may lead below them all."""
    x = np.array([0.0, 1.0, 2.0])
    line = np.linspace(0, 2, 50), np.linspace(0, 2, 50) - 3 * np.sin(np.linspace(0, np.pi, 50))
    exploration.reaction_path(tmp_path / "a.png", x, np.array([0.0, 0.2, 0.1]), line)
    low, high = axes[0].get_ylim()
    assert low < line[1].min()
    assert high > line[1].max()


def test_points_that_have_not_converged_are_told_apart(axes, tmp_path):
    x, done = np.arange(5.0), np.array([True, False, True, True, False])
    exploration.scan_line(tmp_path / "a.png", x, {"scan": x**2}, "x", done)
    assert legend(axes[0]) == ["scan", "not converged"]
    np.testing.assert_array_equal(axes[0].lines[1].get_xdata(), x[~done])
    exploration.scan_line(tmp_path / "b.png", x, {"scan": x**2}, "x", done | True)
    assert legend(axes[1]) == []


def test_the_course_of_a_search_has_the_numbers_of_its_escapes(axes, tmp_path):
    """The second escape was rejected; the start is no new minimum."""
    new = np.array([True, False, True])
    exploration_minima.minima_found(tmp_path / "a.png", np.array([1, 3, 4]), np.zeros(3), new)
    assert axes[0].get_title(loc="left") == "2 new minima in 3 escapes"
    np.testing.assert_array_equal(axes[0].lines[1].get_xdata(), [1, 4])


def test_feedback_has_plain_numbers_at_its_ticks(axes, tmp_path):
    values = np.array([900.0, 1000.0, 1700.0])
    exploration_minima.hopping_feedback(
        tmp_path / "a.png", np.array([0, 1, 0]), values, values / 500
    )
    for ax in axes:
        low, high = ax.get_ylim()
        inside = [t for t in ax.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
        assert len(inside) > 2
        assert not any("mathdefault" in t.label1.get_text() for t in inside)


def test_the_legend_names_the_reference(axes, tmp_path):
    """Also where the first curve has none."""
    x = np.linspace(0, 1, 9)
    curves = [(name, x, 0 * x) for name in "ab"]
    observables.observable_curves(tmp_path / "a.png", "t", ("x", "y"), x, curves, [None, 2 * x])
    assert legend(axes[0]) == []
    assert legend(axes[1]) == ["reference", "trajectory"]


def test_a_long_label_has_its_error_below(axes, tmp_path):
    x = np.linspace(0, 1, 9)
    names = "C-H", "end-to-end distance C0-O2"
    curves = [(name, x, 0 * x) for name in names]
    observables.observable_curves(
        tmp_path / "a.png", "t", ("x", "y"), x, curves, [x, x], [0.25, 0.25]
    )
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["C-H, MAE 0.25", "end-to-end distance C0-O2\nMAE 0.25"]
