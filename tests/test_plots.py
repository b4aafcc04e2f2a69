"""Every figure is drawn from numbers, says them in its title, and refuses what it cannot draw."""

import re

import matplotlib.image
import numpy as np
import pytest

from mlffjax import plots
from mlffjax.plots import style

RNG = np.random.default_rng(0)
TIME = np.linspace(0, 1, 50)
ETHANOL = np.array([6, 6, 8, 1])
PLACES = np.array([[0, 0, 0], [1.5, 0, 0], [2.0, 1.3, 0], [-0.6, 0.9, 0.2]], float)


def curve(path, scale=1.0):
    plots.learning_curve(
        path,
        epochs=[1, 2, 3],
        train_loss=[3.0, 2.0, 1.0],
        valid_epochs=[1, 3],
        valid_loss=[3.0 * scale, 2.0],
        energy_mae=[0.1, 0.01],
        force_mae=[0.2, 0.05],
    )


def lengths(shift=0.0):
    return {"C-H": 1.1 + shift + 0.02 * RNG.normal(size=60), "C-O": 1.4 + RNG.normal(size=60)}


FIGURES = {
    "learning": curve,
    "energy": lambda p: plots.energy_parity(p, RNG.normal(size=30), RNG.normal(size=30)),
    "force": lambda p: plots.force_parity(p, RNG.normal(size=(9, 3)), RNG.normal(size=(9, 3))),
    "dense": lambda p: plots.force_parity(p, RNG.normal(size=(999, 3)), np.zeros((999, 3))),
    "drift": lambda p: plots.energy_drift(p, TIME, np.sin(TIME), 0.1),
    "temperature": lambda p: plots.temperature(p, TIME, 300 + TIME, 290 + TIME),
    "bonds": lambda p: plots.bond_lengths(p, lengths(0.01), lengths()),
    "distances": lambda p: plots.radial_distribution(p, TIME, TIME**2, TIME),
    "molecule": lambda p: plots.structure(p, ETHANOL, PLACES),
    "crystal": lambda p: plots.structure(p, ETHANOL, PLACES, 4 * np.eye(3)),
    "atom": lambda p: plots.structure(p, ETHANOL[:1], PLACES[:1]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_a_png_with_ink(name, tmp_path):
    path = tmp_path / "new" / f"{name}.png"
    FIGURES[name](path)
    image = matplotlib.image.imread(path)
    assert image.shape[1] > 400
    assert (image[..., :3] < 0.9).any(axis=-1).mean() > 0.005
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def titles(monkeypatch):
    """Collects the titles of every figure drawn from now on."""
    seen = []
    original = style.Figure.savefig

    def savefig(self, *args, **kwargs):
        seen.extend(ax.get_title(loc=loc) for ax in self.axes for loc in ("left", "center"))
        original(self, *args, **kwargs)

    monkeypatch.setattr(style.Figure, "savefig", savefig)
    return seen


def test_parity_titles_carry_the_errors(tmp_path, monkeypatch):
    seen = titles(monkeypatch)
    reference = np.array([[0.0, 1.0, 2.0]])
    plots.force_parity(tmp_path / "f.png", reference, reference + np.array([[0.01, -0.02, 0.03]]))
    rmse = 1e3 * np.sqrt((0.01**2 + 0.02**2 + 0.03**2) / 3)
    assert f"Force components: MAE 20, RMSE {rmse:.3g} meV/Å" in seen
    plots.energy_parity(tmp_path / "e.png", np.array([-9.0, -8.0]), np.array([-9.0, -7.99]))
    assert "Energy: MAE 5, RMSE 7.07 meV/atom" in seen


def test_temperature_title_carries_the_mean_of_the_second_half(tmp_path, monkeypatch):
    seen = titles(monkeypatch)
    plots.temperature(tmp_path / "t.png", TIME, np.repeat([100.0, 321.0], 25))
    assert "Temperature, mean 321 K in the second half" in seen


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: plots.energy_parity(p, np.zeros(2), np.zeros(3)), "expected equal shapes"),
        (lambda p: plots.energy_parity(p, np.zeros(0), np.zeros(0)), "got no data"),
        (lambda p: plots.temperature(p, TIME, TIME * np.nan), "50 non-finite"),
        (lambda p: curve(p, np.nan), "1 non-finite"),
        (lambda p: plots.bond_lengths(p, {}, {"C-H": TIME}), "expected the same kinds"),
        (lambda p: plots.structure(p, ETHANOL, np.full((4, 3), np.inf)), "non-finite coordinates"),
    ],
)
def test_bad_numbers_are_refused_and_leave_no_file(draw, message, tmp_path):
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match=message):
        draw(path)
    assert not path.exists()


def test_no_global_state_is_changed(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curve(tmp_path / "c.png")
    assert dict(matplotlib.rcParams) == before


def test_report_holds_everything_and_loads_nothing(tmp_path):
    picture = tmp_path / "c.png"
    curve(picture)
    report = tmp_path / "report.html"
    plots.write_report(
        report,
        title="A <title>",
        lead="lead",
        rows=[plots.Row("Force MAE", "12.3", "meV/Å", "100 frames")],
        pictures=[plots.Picture(picture, "Learning curve", "caption", wide=True)],
        notes=["a note"],
        settings="model: {architecture: so3krates}",
        cover=picture,
        footer="version",
    )
    text = report.read_text()
    assert "A &lt;title&gt;" in text
    for part in ("Force MAE", "12.3", "meV/Å", "100 frames", "caption", "a note", "so3krates"):
        assert part in text
    assert text.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


def test_report_without_a_picture_fails_before_writing(tmp_path):
    missing = plots.Picture(tmp_path / "none.png", "t", "c")
    with pytest.raises(FileNotFoundError):
        plots.write_report(tmp_path / "r.html", title="t", lead="l", rows=[], pictures=[missing])
    assert not (tmp_path / "r.html").exists()
