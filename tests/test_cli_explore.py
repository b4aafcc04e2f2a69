"""``mlffjax relax`` and ``mlffjax hop``, from the files to the files."""

import json
import os
import signal
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms
from clusters import cluster, untrained

from mlffjax.cli import main
from mlffjax.data import write_extxyz
from mlffjax.explore import minima_hopping
from mlffjax.explore.hop_store import read_history

HOP = (
    "walkers=2",
    "md_steps=4",
    "mdmin=0",
    "temperature=300",
    "relax.fmax=0.2",
    "relax.memory=3",
    "save_interval=2",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, str]:
    """A model with random weights, and three clusters."""
    folder = tmp_path_factory.mktemp("explore")
    untrained().save(folder / "model")
    write_extxyz([cluster(n, k) for k, n in enumerate((5, 6, 6))], folder / "clusters.extxyz")
    return str(folder / "model"), str(folder / "clusters.extxyz")


def test_relax(files, tmp_path: Path, capsys) -> None:
    model, structures = files
    out = tmp_path / "relaxed.extxyz"
    settings = ["fmax=0.2", "memory=3", "fixed_atoms=[0]"]
    assert main(["relax", model, structures, "--out", str(out), *settings]) == 0
    assert "3 of 3" in capsys.readouterr().out
    before, after = ase.io.read(structures, ":"), ase.io.read(out, ":")
    for old, new in zip(before, after, strict=True):
        assert np.linalg.norm(new.get_forces()[1:], axis=1).max() < 0.2
        np.testing.assert_allclose(new.positions[0], old.positions[0], rtol=0, atol=1e-6)
    assert main(["relax", model, structures, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_constraints_of_a_file_are_kept_or_refused(files, tmp_path: Path, capsys) -> None:
    model, structures = files
    held = ase.io.read(structures, ":")
    held[1].set_constraint(FixAtoms([2, 3]))
    ase.io.write(tmp_path / "held.traj", held)
    out, file = tmp_path / "relaxed.extxyz", str(tmp_path / "held.traj")
    settings = ["fmax=0.2", "memory=3", "fixed_atoms=[0]"]
    assert main(["relax", model, file, "--out", str(out), *settings]) == 0
    assert "kept in 1 of 3" in capsys.readouterr().out
    moved = ase.io.read(out, "1").positions - held[1].positions
    np.testing.assert_allclose(moved[[0, 2, 3]], 0, atol=1e-6)
    for command in ("hop", "md"):
        folder = tmp_path / command
        arguments = [command, model, file, "--frame", "1", "--out", str(folder)]
        assert main(arguments) == 2
        assert "got 1 constraints" in capsys.readouterr().err
    phonons = ["vibrations", model, file, "--fixed", "0", "--supercell", "2", "2", "2"]
    assert main([*phonons, "--out", str(tmp_path / "phonons")]) == 2
    assert "got --fixed with --supercell" in capsys.readouterr().err


def test_relax_says_what_did_not_converge(files, tmp_path: Path, capsys) -> None:
    model, structures = files
    out = tmp_path / "relaxed.extxyz"
    assert main(["relax", model, structures, "--out", str(out), "fmax=1e-9", "steps=2"]) == 2
    error = capsys.readouterr().err
    assert "3 structures that have not converged: 0 (unfinished)" in error
    assert len(ase.io.read(out, ":")) == 3
    assert main(["relax", model, structures, "--out", str(tmp_path / "x"), "fmx=1"]) == 2
    assert "did you mean 'fmax'" in capsys.readouterr().err


def test_hop_and_resume(files, tmp_path: Path, capsys) -> None:
    model, structures = files
    folder = tmp_path / "hop"
    begin = ["hop", model, structures, "--out", str(folder)]
    assert main([*begin, *HOP, "steps=4"]) == 0
    assert "minima, history and figures" in capsys.readouterr().out
    assert len(read_history(folder)) == 4
    assert main([*begin, *HOP, "steps=4"]) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*begin, "--resume", "steps=6"]) == 0
    history = (folder / "history.jsonl").read_text().splitlines()
    assert len(history) == 6
    assert {"walker", "step", "from", "to", "barrier", "status"} <= set(json.loads(history[-1]))
    assert main([*begin, "--resume", "rmsd=0.3"]) == 2
    assert "other settings (rmsd)" in capsys.readouterr().err
    for name in ("minima.extxyz", "lowest.extxyz", "state.npz", "settings.yaml", "minima.png"):
        assert (folder / name).is_file(), name


def test_an_interrupted_hop_is_saved_and_goes_on(
    files, tmp_path: Path, monkeypatch, capsys
) -> None:
    model, structures = files
    judge, before = minima_hopping._Search._judge, signal.getsignal(signal.SIGTERM)

    def judged(search, host, walker) -> None:
        judge(search, host, walker)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(minima_hopping._Search, "_judge", judged)
    folder = tmp_path / "hop"
    begin = ["hop", model, structures, "--out", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main([*begin, "walkers=1", *HOP[1:], "steps=4"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert "--resume" in capsys.readouterr().err
    assert len(read_history(folder)) == 1
    monkeypatch.setattr(minima_hopping._Search, "_judge", judge)
    assert main([*begin, "--resume"]) == 0
    assert len(read_history(folder)) == 4
