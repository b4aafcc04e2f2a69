"""The commands neb, scan and vibrations from files to files, and what they refuse."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from clusters import untrained

from mlffjax import cli
from mlffjax.data import write_extxyz
from mlffjax.data.frames import Frame

BENT = np.array([[0.0, 0, 0], [1.9, 0, 0], [2.5, 1.8, 0.3]])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, str]:
    """A potential and a file of two structures of three atoms."""
    folder = tmp_path_factory.mktemp("paths")
    # The last layer of a new SchNet is zero.
    potential = untrained()
    params = jax.tree.map(lambda x: x + 0.05, potential.params)
    replace(potential, params=params).save(folder / "model")
    numbers, none = np.array([6, 8, 6]), np.zeros(3, bool)
    other = BENT + np.array([[0, 0, 0], [0, 0, 0], [0.1, -0.4, 0.5]])
    frames = [Frame(numbers, x, np.zeros((3, 3)), none) for x in (BENT, other)]
    write_extxyz(frames, folder / "two.extxyz")
    return str(folder / "model"), str(folder / "two.extxyz")


def test_scan_writes_structures_and_figure(files, tmp_path, capsys):
    out = tmp_path / "scan"
    arguments = ["scan", *files, "--distance", "0", "1", "1.7", "2.1", "3", "--out", str(out)]
    assert cli.main([*arguments, "--slide", "2", "0", "0", "1", "0", "0.4", "2"]) == 0
    assert "span" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["shape"] == [3, 2]
    assert len(summary["energies_eV"]) == 6
    assert {p.name for p in out.iterdir()} == {"scan.extxyz", "scan.png", "summary.json"}
    assert cli.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_vibrations_are_written_and_printed(files, tmp_path, capsys):
    out = tmp_path / "vibrations"
    assert cli.main(["vibrations", *files, "--out", str(out)]) == 0
    assert "zero-point energy" in capsys.readouterr().out
    modes = np.load(out / "modes.npz")
    assert modes["modes"].shape == (3, 3, 3)
    assert (out / "spectrum.png").exists()
    assert cli.main(["vibrations", *files, "--out", str(out), "--path", "GX", "--overwrite"]) == 2
    assert "--supercell" in capsys.readouterr().err
    wrong = ["vibrations", *files, "--out", str(tmp_path / "v"), "--supercell", "2", "2", "2"]
    assert cli.main(wrong) == 2
    assert "got a molecule" in capsys.readouterr().err


def test_path_that_does_not_converge_is_written_and_is_an_error(files, tmp_path, capsys):
    model, structures = files
    out = tmp_path / "neb"
    arguments = ["neb", model, structures, structures, "--frames", "0", "1", "--out", str(out)]
    settings = ["images=2", "steps=2", "fmax=1e-9", "end_fmax=1e-9", "interpolation=linear"]
    assert cli.main([*arguments, *settings]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("warning: the") == 2
    assert "a path that is unfinished" in printed.err
    assert {p.name for p in out.iterdir()} == {
        "path.extxyz",
        "path.png",
        "settings.yaml",
        "summary.json",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "got 0 coordinates"),
        (["--dihedral", "0", "1", "2", "7", "0", "9", "3"], "got the atoms [0, 1, 2, 7]"),
        (["--distance", "0", "b", "1", "2", "3"], "got --distance 0 b"),
        (["--distance", "0", "1", "1", "2", "0.5"], "got the values 1 2 0.5"),
        (["--distance", "0", "1", "1", "2", "3", "fmax=0.1"], "without --relaxed"),
        (["--relaxed", "fmaxx=0.1"], "did you mean 'fmax'"),
    ],
)
def test_wrong_scans_end_with_one_line(files, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scan", *files, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("command", ["neb", "scan", "vibrations"])
def test_commands_have_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"mlffjax {command}" in capsys.readouterr().out.split("examples:")[1]


def test_map_of_minima_needs_two_angles(files, capsys):
    assert cli.main(["hop", *files, "--dihedral", "0", "1", "2", "3"]) == 2
    assert "expected two" in capsys.readouterr().err
