"""Disconnectivity graph of landscapes whose tree is known; figures and report from a folder."""

import json

import numpy as np
import pytest

from mlffjax import plots
from mlffjax.data.frames import Frame
from mlffjax.exploration import map_dihedrals, report_hopping
from mlffjax.explore.disconnectivity import disconnectivity_graph
from mlffjax.explore.hop_store import Escape, HopFiles, Minimum

#: Two funnels, {0, 1} and {2, 3}, joined at 5.0; minimum 4 has no path to any.
ENERGIES = np.array([0.0, 1.0, 0.5, 2.0, 3.0])
BARRIERS = [(0, 1, 1.5), (1, 0, 4.5), (2, 3, 2.5), (1, 3, 5.0), (0, 3, 6.0)]


def same(basins: np.ndarray) -> set[frozenset[int]]:
    """The sets of leaves in one superbasin."""
    return {frozenset(np.flatnonzero(basins == b).tolist()) for b in set(basins.tolist()) - {-1}}


def test_superbasins_at_every_level():
    tree = disconnectivity_graph(ENERGIES, BARRIERS, levels=[0.2, 1.2, 1.7, 2.7, 4.0, 5.1])
    assert tree.minima.tolist() == [0, 2, 1, 3, 4]
    found = [{frozenset(tree.minima[list(s)].tolist()) for s in same(row)} for row in tree.basins]
    f = frozenset
    assert found[0] == {f({0})}
    assert found[1] == {f({0}), f({1}), f({2})}
    assert found[2] == {f({0, 1}), f({2})}
    assert found[3] == {f({0, 1}), f({2, 3})}
    assert found[4] == {f({0, 1}), f({2, 3}), f({4})}
    assert found[5] == {f({0, 1, 2, 3}), f({4})}


def test_leaves_of_a_superbasin_stand_together():
    tree = disconnectivity_graph(ENERGIES, BARRIERS)
    place = dict(zip(tree.minima.tolist(), tree.places.tolist(), strict=True))
    assert sorted(place.values()) == [0, 1, 2, 3, 4]
    assert abs(place[0] - place[1]) == 1
    assert abs(place[2] - place[3]) == 1
    starts = {tuple(line[0]) for line in tree.lines.tolist()}
    for minimum, at in place.items():
        assert (at, ENERGIES[minimum]) in starts
    assert (tree.lines[:, 1, 1] >= tree.lines[:, 0, 1] - 1e-12).all()


def test_paths_through_minima_that_are_not_shown_count():
    tree = disconnectivity_graph(ENERGIES, BARRIERS, levels=[0.7, 5.5], most=2)
    assert tree.minima.tolist() == [0, 2]
    assert tree.basins[0, 0] != tree.basins[0, 1]
    assert tree.basins[1, 0] == tree.basins[1, 1]


def test_random_landscape_agrees_with_brute_force():
    rng = np.random.default_rng(2)
    energies = rng.uniform(0, 1, 30)
    edges = [(int(a), int(b), float(rng.uniform(1, 3))) for a, b in rng.integers(0, 30, (60, 2))]
    tree = disconnectivity_graph(energies, edges)
    minimax = np.where(np.eye(30, dtype=bool), 0.0, np.inf)
    for a, b, height in edges:
        minimax[a, b] = minimax[b, a] = min(minimax[a, b], height) if a != b else 0.0
    for k in range(30):
        minimax = np.minimum(minimax, np.maximum(minimax[:, [k]], minimax[[k]]))
    for level, row in zip(tree.levels, tree.basins, strict=True):
        up = energies[tree.minima] <= level
        joined = minimax[np.ix_(tree.minima, tree.minima)] <= level
        np.testing.assert_array_equal(row[:, None] == row, joined | ~(up[:, None] | up))


@pytest.mark.parametrize(
    ("energies", "edges", "message"),
    [
        ([], [], "at least one minimum"),
        ([0.0, np.nan], [], "1 not finite"),
        ([0.0, 1.0], [(0, 2, 3.0)], "from 0 to 2"),
        ([0.0, 1.0], [(0, 1, np.inf)], "at inf eV"),
    ],
)
def test_wrong_landscapes_are_refused(energies, edges, message):
    with pytest.raises(ValueError, match=message):
        disconnectivity_graph(np.array(energies), edges)


def search(folder) -> None:
    """The files of a search with three minima of four atoms."""
    rng = np.random.default_rng(0)
    frame = Frame(np.array([6, 6, 8, 1]), np.zeros((4, 3)), np.zeros((3, 3)), np.zeros(3, bool))
    files = HopFiles(folder, frame)
    for k, energy in enumerate((-1.0, -1.5, -0.7)):
        files.add_minimum(Minimum(rng.normal(size=(4, 3)), energy, energy, k, k - 1))
    for step, (origin, target, barrier, status) in enumerate(
        [(0, 1, 0.1, "new"), (1, 2, 0.4, "new"), (1, 1, None, "same"), (1, None, None, "failed")]
    ):
        energy = None if target is None else -1.0
        files.add_escape(
            Escape(step % 2, step, origin, target, 1000.0, 0.1, energy, barrier, True, 90, status)
        )
    files.close()


def test_report_of_a_search_folder(tmp_path):
    search(tmp_path)
    training = [
        Frame(np.array([6, 6, 8, 1]), np.random.default_rng(k).normal(size=(4, 3)),
              np.zeros((3, 3)), np.zeros(3, bool))
        for k in range(5)
    ]  # fmt: skip
    angles = [(0, 1, 2, 3), (3, 1, 0, 2)]
    report = report_hopping(tmp_path, dihedrals=angles, training=training)
    assert (report.minima, report.escapes) == (3, 4)
    assert report.tree.minima.tolist() == [1, 0, 2]
    assert len(set(report.tree.basins[-1].tolist())) == 1
    names = {path.name for path in report.figures}
    assert names == {"disconnectivity.png", "minima.png", "feedback.png", "dihedrals.png"}
    assert all(path.stat().st_size > 5000 for path in report.figures)
    with pytest.raises(ValueError, match="expected two of four atoms"):
        map_dihedrals(tmp_path / "x.png", np.zeros((2, 4, 3)), [(0, 1, 2, 4), (0, 1, 2, 3)])


def test_figures_of_paths_and_scans(tmp_path):
    x = np.linspace(0, 1, 5)
    plots.reaction_path(tmp_path / "path.png", x, np.sin(np.pi * x), (x, np.sin(np.pi * x)),
                        reference=(x, x))  # fmt: skip
    plots.scan_line(tmp_path / "line.png", x, {"rigid": x**2, "relaxed": x}, "x")
    plots.scan_map(tmp_path / "map.png", x, x[:3], np.outer(x, x[:3]), ("x", "y"))
    plots.vibrational_spectrum(tmp_path / "spectrum.png", np.array([-120.0, 400.0, 3000.0]))
    plots.phonon_bands(tmp_path / "bands.png", x, np.outer(x, [1, 2, 3]), [(0, "G"), (1, "X")])
    angles = np.random.default_rng(0).uniform(-180, 180, (400, 2))
    plots.dihedral_density(tmp_path / "dense.png", angles, None, ("phi", "psi"))
    assert len([p for p in tmp_path.iterdir() if p.stat().st_size > 5000]) == 6
    with pytest.raises(ValueError, match="0 finite"):
        plots.scan_line(tmp_path / "no.png", x, {"a": np.full(5, np.nan)}, "x")
    with pytest.raises(ValueError, match="two values of each"):
        plots.scan_map(tmp_path / "no.png", x, x[:1], np.outer(x, x[:1]), ("x", "y"))
    assert not (tmp_path / "no.png").exists()


def test_lines_of_the_history_can_be_read_elsewhere(tmp_path):
    search(tmp_path)
    first = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])
    assert (first["from"], first["to"], first["barrier"]) == (0, 1, 0.1)
