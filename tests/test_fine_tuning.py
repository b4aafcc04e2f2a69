"""Training that goes on from a saved potential, with data of another zero of energy."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from mlffjax import checkpoint, dry_run
from mlffjax.cli import main
from mlffjax.config.base import ConfigError
from mlffjax.config.data import BaselineSettings
from mlffjax.config.run import ModelSettings
from mlffjax.data import Frame, load_builtin, write_extxyz
from mlffjax.fine_tuning import shifted_baseline, starting_potential
from mlffjax.models import build
from mlffjax.potential import Potential
from mlffjax.training.evaluate import evaluate

SHIFTS = {1: 0.3, 6: -2.0, 7: 5.0, 8: 1.5}
CONFIG = """
data: {{train: {data}, split: {{train: 8, valid: 4, test: 4}}}}
model: {{start: {start}}}
training: {{epochs: 2, batch_size: 4, progress: false, tensorboard: false}}
output: {{folder: {folder}, figures: false}}
"""


@pytest.fixture(scope="module")
def potential():
    """Random parameters; knows one element more than the data."""
    settings = {
        "num_features": 6, "num_layers": 1, "num_heads": 2, "degrees": [1], "num_radial": 6,
        "cutoff": 3.0,
    }  # fmt: skip
    return Potential.init(
        build("so3krates", settings),
        (1, 6, 7, 8),
        jax.random.key(0),
        baseline=[-13.0, -1029.0, -1485.0, -2041.0],
        scale=0.5,
        shift=[0.1, 0.2, 0.3, 0.4],
    )


@pytest.fixture(scope="module")
def start(potential, tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "potential"
    checkpoint.save(potential, path, metrics={"forces_mae": 1.0})
    return path


@pytest.fixture(scope="module")
def frames():
    return load_builtin("ethanol")[3:23]


def labelled(potential, frames, shifts):
    """The frames with the potential's own energies, moved by an energy of each element."""
    energies = evaluate(potential, frames).energy
    moved = [sum(shifts[int(z)] for z in f.numbers) for f in frames]
    pairs = zip(frames, energies + moved, strict=True)
    return [replace(frame, energy=float(energy)) for frame, energy in pairs]


def clusters(numbers_of_each) -> list[Frame]:
    """Atoms on a line, 1.2 Angstrom apart."""
    return [
        Frame(
            numbers=np.array(numbers),
            positions=np.arange(len(numbers))[:, None] * np.array([[1.2, 0.0, 0.0]]),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, bool),
        )
        for numbers in numbers_of_each
    ]


def test_another_zero_of_energy_is_found_for_each_element(potential):
    """Compositions that determine all: the shifts come back, without knowing them."""
    frames = clusters([[1, 1], [6, 8], [1, 6, 1], [8, 1, 1], [6, 1, 8, 8], [8, 8]])
    baseline = shifted_baseline(potential, labelled(potential, frames, SHIFTS))
    assert baseline.elements == (1, 6, 8)
    assert baseline.source == "start"
    assert baseline.determined
    own = dict(zip(potential.elements, potential.baseline, strict=True))
    found = [e - own[z] for z, e in zip(baseline.elements, baseline.energies, strict=True)]
    np.testing.assert_allclose(found, [SHIFTS[z] for z in baseline.elements], atol=1e-5)
    assert baseline.residual < 1e-5


def test_the_smallest_change_where_compositions_leave_a_choice(potential, frames):
    """One composition, C2H6O: a change along it, in proportion to the numbers of atoms."""
    baseline = shifted_baseline(potential, labelled(potential, frames, SHIFTS))
    own = dict(zip(potential.elements, potential.baseline, strict=True))
    change = np.array(baseline.energies) - [own[z] for z in baseline.elements]
    counts = np.array([6, 2, 1])  # of H, C and O
    total = 6 * SHIFTS[1] + 2 * SHIFTS[6] + SHIFTS[8]
    np.testing.assert_allclose(change, counts * total / (counts @ counts), atol=1e-5)
    assert not baseline.determined


def test_nothing_changes_without_energies(potential, frames):
    bare = [replace(frame, energy=None) for frame in frames]
    baseline = shifted_baseline(potential, bare)
    own = dict(zip(potential.elements, potential.baseline, strict=True))
    assert baseline.energies == tuple(own[z] for z in (1, 6, 8))


def test_all_but_the_element_energies_is_kept(potential, start, frames):
    moved = labelled(potential, frames, SHIFTS)
    found, baseline = starting_potential(start, moved, BaselineSettings())
    assert found.elements == potential.elements
    assert (found.scale, found.shift) == (potential.scale, potential.shift)
    for one, two in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(potential.params), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    energies = dict(zip(found.elements, found.baseline, strict=True))
    assert energies[7] == -1485.0, "nitrogen is in no frame"
    assert all(energies[z] == e for z, e in zip(baseline.elements, baseline.energies, strict=True))
    own, other = evaluate(found, moved), evaluate(potential, moved)
    for one, two in zip(own.forces, other.forces, strict=True):
        np.testing.assert_array_equal(one, two)
    errors = own.energy - [frame.energy for frame in moved]
    assert abs(np.mean(errors)) < 1e-4
    assert abs(np.mean(other.energy - [frame.energy for frame in moved])) > 0.5


def test_element_energies_that_are_given_are_taken(start, frames):
    given = BaselineSettings(energies={"H": -1.0, "C": -2.0, "O": -3.0})
    found, _ = starting_potential(start, frames, given)
    assert found.baseline == (-1.0, -2.0, -1485.0, -3.0)


def test_where_it_came_from_is_told_and_old_errors_are_not(start, frames):
    found, _ = starting_potential(start, frames, BaselineSettings())
    about = json.loads(found.metadata)
    assert about["start"] == str(start)
    assert "metrics" not in about


@pytest.fixture
def config(tmp_path, start, frames):
    """A configuration, its output folder, and the potential it starts from."""
    shutil.copytree(start, tmp_path / "start")
    write_extxyz(frames, tmp_path / "data.extxyz")
    file = tmp_path / "run.yaml"
    file.write_text(
        CONFIG.format(
            data=tmp_path / "data.extxyz", start=tmp_path / "start", folder=tmp_path / "run"
        )
    )
    return file


def test_a_run_goes_on_from_the_potential(config, potential, capsys, monkeypatch):
    folder = config.parent / "run"
    with monkeypatch.context() as patch:
        # Compiles the program of a step, which test_cli_flow.py does for a run from its beginning.
        patch.setattr(dry_run, "_memory", lambda *_: "")
        assert main(["train", str(config), "--dry-run"]) == 0
    assert f"of {config.parent / 'start'}" in capsys.readouterr().out
    assert not folder.exists()
    assert main(["train", str(config)]) == 0
    first = checkpoint.load(folder / "last")
    assert first.elements == potential.elements
    assert first.module == potential.module
    moved = [
        float(np.max(np.abs(np.asarray(one) - np.asarray(two))))
        for one, two in zip(
            jax.tree.leaves(first.params), jax.tree.leaves(potential.params), strict=True
        )
    ]
    # Four steps of at most the learning rate each, from the potential's parameters.
    assert 0 < max(moved) < 5e-3


@pytest.mark.slow
def test_a_run_resumes_without_the_potential(config):
    """Element energies are fitted once: a resumed run needs the potential no more."""
    folder = config.parent / "run"
    assert main(["train", str(config)]) == 0
    first = checkpoint.load(folder / "last")
    whole = config.parent / "whole"
    assert main(["train", str(config), "training.epochs=3", f"output.folder={whole}"]) == 0
    shutil.rmtree(config.parent / "start")
    assert main(["train", str(config), "--resume", "training.epochs=3"]) == 0
    resumed, straight = checkpoint.load(folder / "last"), checkpoint.load(whole / "last")
    assert resumed.baseline == straight.baseline == first.baseline
    for one, two in zip(
        jax.tree.leaves(resumed.params), jax.tree.leaves(straight.params), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def with_fluorine(config):
    """Data with an element that the potential does not know."""
    path = config.parent / "data.extxyz"
    path.write_text(path.read_text().replace("\nO ", "\nF "))


def compressed(config):
    path = config.parent / "start"
    fast = checkpoint.load(path).compressed(1e-2)
    shutil.rmtree(path)
    checkpoint.save(fast, path)


def removed(config):
    shutil.rmtree(config.parent / "start")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_fluorine, "training frames with F"),
        (compressed, "compressed potential"),
        (removed, "does not exist"),
    ],
)
def test_what_cannot_be_a_start_is_refused_before_anything_is_written(
    config, spoil, message, capsys
):
    spoil(config)
    assert main(["train", str(config)]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert not (config.parent / "run").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "architecture, or start"),
        ({"start": "runs/a", "architecture": "mace"}, "remove architecture"),
        ({"start": "runs/a", "num_features": 8}, "remove num_features"),
    ],
)
def test_a_model_is_an_architecture_or_a_start(section, message):
    with pytest.raises(ConfigError, match=message):
        ModelSettings.parse(section)
