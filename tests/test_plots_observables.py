"""Figures of observables: drawn alone, in panels, beside a reference."""

import matplotlib.image
import numpy as np
import pytest

from mlffjax.plots.observables import MAX_PANELS, observable_curves, observable_map

X = np.linspace(0, 5, 40)
BAND = np.full(40, 0.1)
AXES = ("r (Å)", "g(r)")
CENTRES = np.linspace(-175, 175, 36)
RNG = np.random.default_rng(0)
WELLS = np.exp(-((CENTRES[:, None] + 80) ** 2 + (CENTRES - 60) ** 2) / 900) * (CENTRES > -100)


def curves(count):
    return [(f"A-{k}", np.sin(X + k), BAND * (np.nan if k == 1 else 1)) for k in range(count)]


FIGURES = {
    "one": lambda p: observable_curves(p, "One", AXES, X, curves(1)),
    "shared": lambda p: observable_curves(p, "Shared", AXES, X, curves(4)),
    "panels": lambda p: observable_curves(p, "Panels", AXES, X, curves(MAX_PANELS + 3)),
    "reference": lambda p: observable_curves(
        p, "Reference", AXES, X, curves(3), [np.cos(X), None, X * np.nan], [0.1, None, None]
    ),
    "map": lambda p: observable_map(p, "Map", ("φ (°)", "ψ (°)"), CENTRES, CENTRES, WELLS),
    "maps": lambda p: observable_map(
        p, "Map", ("φ (°)", "ψ (°)"), CENTRES, CENTRES, WELLS, WELLS.T + 1e-4
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_a_png_with_ink(name, tmp_path):
    path = tmp_path / f"{name}.png"
    FIGURES[name](path)
    image = matplotlib.image.imread(path)
    assert (image[..., :3] < 0.9).any(axis=-1).mean() > 0.005


def test_bad_numbers_are_refused(tmp_path):
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match="non-finite"):
        observable_curves(path, "t", AXES, X, [("a", X * np.nan, BAND)])
    with pytest.raises(ValueError, match="no curves"):
        observable_curves(path, "t", AXES, X, [])
    with pytest.raises(ValueError, match="equal shapes"):
        observable_map(path, "t", AXES, CENTRES, CENTRES, WELLS, WELLS[:3])
    assert not path.exists()
