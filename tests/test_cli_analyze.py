"""``mlffjax analyze`` from files to numbers, tables and figures."""

import csv
import json

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from mlffjax import analyze
from mlffjax.cli import main
from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.records import Block, Thermo
from mlffjax.md.trajectory import open_writers
from mlffjax.units import BOLTZMANN

RNG = np.random.default_rng(0)


def butane(path, frames=40, spread=0.02):
    """Frames of butane that shake; each with its time."""
    images = []
    for k in range(frames):
        atoms = molecule("trans-butane")
        atoms.positions += RNG.normal(scale=spread, size=(14, 3))
        thermal = np.sqrt(atoms.get_masses() * BOLTZMANN * 300)[:, None]
        atoms.set_momenta(thermal * RNG.normal(size=(14, 3)))
        atoms.info["time_fs"] = 2.0 * k
        images.append(atoms)
    write(path, images)
    return path


def table(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_molecule_against_a_reference(tmp_path, capsys):
    ours, theirs = butane(tmp_path / "a.traj"), butane(tmp_path / "b.extxyz", 30, 0.05)
    out = tmp_path / "out"
    assert main(["analyze", str(ours), "--reference", str(theirs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "radius of gyration" in printed
    assert "MAE rdf all" in printed
    assert "note: msd left out: got no periodic direction" in printed
    files = {p.name for p in out.iterdir()}
    for name in ("rdf", "adf", "vacf", "spectrum", "dihedrals"):
        assert {f"{name}.csv", f"{name}.png"} <= files
    assert not {"msd.csv", "coordination.csv"} & files
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 40
    assert summary["scalars"]["temperature"]["value"] == pytest.approx(300, rel=0.1)
    # The spread of distances is seen: the MAE is that of the two columns of the table.
    rows = table(out / "rdf.csv")
    mine, other = rows[0].index("all"), rows[0].index("all reference")
    values = np.array(rows[1:], float)
    expected = np.abs(values[:, mine] - values[:, other]).mean()
    assert summary["mae"]["rdf all"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01
    names = [row[0] for row in table(out / "scalars.csv")]
    assert "radius of gyration" in names
    assert main(["analyze", str(ours), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_run_folder_uses_its_log(tmp_path, capsys):
    cell = 6.0 * np.eye(3)
    places = RNG.uniform(0, 6, (30, 3))
    frame = Frame(np.full(30, 18), places, cell, np.ones(3, bool))
    steps = np.arange(60)
    walk = places + np.cumsum(RNG.normal(scale=0.05, size=(60, 30, 3)), axis=0)
    speed = RNG.normal(scale=1e-3, size=walk.shape)
    ones = np.ones(60)
    # Other temperatures before the first frame that is asked for and after the last.
    heated = np.where((steps < 10) | (steps >= 50), 1000.0, 87.0)
    thermo = Thermo(steps, 10.0 * steps, ones, ones, ones, heated, ones, 0.5 * ones)
    block = Block(
        thermo, steps, 10.0 * steps, ones, walk, speed, speed, np.broadcast_to(cell, (60, 3, 3))
    )
    settings = MDSettings(ensemble="nve", trajectory_format="h5md")
    for writer in open_writers(tmp_path / "run", frame, settings, overwrite=False):
        writer.write(block)
        writer.close()
    out = tmp_path / "out"
    command = ["analyze", str(tmp_path / "run"), "--out", str(out), "start=10", "stop=50"]
    assert main([*command, "what=[thermo,rdf,msd]"]) == 0
    capsys.readouterr()
    scalars = {row[0]: row[1:] for row in table(out / "scalars.csv")[1:]}
    assert float(scalars["temperature"][0]) == 87
    assert float(scalars["pressure"][0]) == 0.5
    assert float(scalars["density"][0]) == pytest.approx(30 * 39.948 / (216 * 0.602214), rel=1e-4)
    # A walk of 0.05 Angstrom in 10 fs along each axis: D = 0.05^2 / 20 Angstrom^2/fs.
    expected = 1e4 * 0.05**2 / 20 * 29 / 30
    assert float(scalars["diffusion coefficient"][0]) == pytest.approx(expected, rel=0.3)
    assert {p.name for p in out.glob("*.png")} == {"rdf.png", "coordination.png", "msd.png"}


def test_a_data_set_has_no_times(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["analyze", "builtin:ethanol"]
    assert main([*data, "stop=50", "what=[spectrum]"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: spectrum: got frames without velocities")
    assert len(error.splitlines()) == 1
    assert main([*data, "stop=50", "what=[shape]"]) == 0
    assert "end-to-end distance C0-O2" in capsys.readouterr().out
    assert (tmp_path / "analysis" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.traj"], "got no file"),
        (["a.extxyz", "what=[rdg]"], "what.0"),
        (["a.extxyz", "start=99"], "expected some frames"),
        (["a.extxyz", "what=[dihedrals]", "dihedrals=[[0,1,2,99]]"], "name atoms of the"),
        (["a.extxyz", "what=[spectrum]", "max_lag_fs=1000"], "expected twice as many"),
        (["a.extxyz", "rmax=3"], "did you mean 'r_max'"),
        (["a.extxyz", "what=[rdf,msd]"], "msd: got no periodic direction"),
        (["."], "with 0 trajectories; expected one of trajectory.extxyz"),
        (["six"], "name the folder, as six/run_0"),
        (["mixed"], "replica_001/trajectory.traj than in mixed/replica_000/trajectory.traj"),
        (["cut"], "replica_000: trajectory.extxyz: got no whole frame"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    butane(tmp_path / "a.extxyz", 4)
    for k in range(2):
        (tmp_path / f"six/run_{k}").mkdir(parents=True)
        butane(tmp_path / f"six/run_{k}/trajectory.traj", 4)
        (tmp_path / f"mixed/replica_00{k}").mkdir(parents=True)
        write(tmp_path / f"mixed/replica_00{k}/trajectory.traj", molecule(("H2O", "NH3")[k]))
    (tmp_path / "cut/replica_000").mkdir(parents=True)
    (tmp_path / "cut/replica_000/trajectory.extxyz").touch()
    assert main(["analyze", *arguments, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out").exists()


def test_replicas_give_one_result(tmp_path, monkeypatch, capsys):
    """A folder of replicas, and the same trajectories named one by one."""
    monkeypatch.chdir(tmp_path)
    for k in range(3):
        (tmp_path / f"md/replica_00{k}").mkdir(parents=True)
        butane(tmp_path / f"md/replica_00{k}/trajectory.traj", 20 + 10 * k)
    names = [f"md/replica_00{k}" for k in range(3)]
    what = "what=[thermo]"
    assert main(["analyze", "md", "--out", "a", what]) == 0
    assert "90 of 3 trajectories" in capsys.readouterr().out
    assert main(["analyze", names[0], what, "--pool", names[1], "--pool", names[2]]) == 0
    together = json.loads((tmp_path / "a/summary.json").read_text())
    named = json.loads((tmp_path / "analysis/summary.json").read_text())
    assert together["scalars"] == named["scalars"]
    assert named["trajectory"] == names
    assert together["trajectories"] == 3
    alone = []
    for name in names:
        assert main(["analyze", name, "--out", name, what]) == 0
        alone.append(json.loads((tmp_path / name / "summary.json").read_text()))
    value, error = (together["scalars"]["temperature"][key] for key in ("value", "error"))
    each = np.array([one["scalars"]["temperature"]["value"] for one in alone])
    assert value == pytest.approx(np.average(each, weights=(20, 30, 40)), rel=1e-9)
    assert error >= each.std(ddof=1) / 3**0.5 * (1 - 1e-9)


def test_frames_of_different_atoms_are_refused(tmp_path, capsys):
    write(tmp_path / "a.extxyz", [molecule("H2O"), molecule("NH3")])
    assert main(["analyze", str(tmp_path / "a.extxyz"), "--out", str(tmp_path / "out")]) == 2
    assert "split the file by composition" in capsys.readouterr().err


def test_examples_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    printed = capsys.readouterr().out
    assert "mlffjax analyze md --reference dft.extxyz" in printed


@pytest.mark.parametrize("suffix", ["traj", "extxyz"])
def test_a_frame_without_velocities_among_others_is_named(tmp_path, capsys, suffix):
    images = read(butane(tmp_path / "whole.traj"), ":")
    del images[23].arrays["momenta"]
    file = tmp_path / f"part.{suffix}"
    write(file, images)
    run = ["analyze", str(file), "--out", str(tmp_path / "out")]
    assert main([*run, "start=2", "step=3"]) == 2
    error = capsys.readouterr().err
    assert f"part.{suffix}#23: got a frame without velocities" in error
    assert "as with stop=23, or thermo and spectrum, by what" in error
    assert main([*run, "stop=23"]) == 0
    assert main([*run, "what=[rdf]", "--overwrite"]) == 0


def test_the_extent_of_a_molecule_is_drawn_where_it_is(tmp_path, monkeypatch):
    drawn = {}

    def seen(*values):
        drawn[values[1]] = values[3]

    monkeypatch.setattr(analyze, "observable_curves", seen)
    run = ["analyze", str(butane(tmp_path / "a.traj")), "--out", str(tmp_path / "out")]
    assert main([*run, "what=[shape]"]) == 0
    x = drawn["Extent of the molecule"]
    # The radius of gyration is 1.6, the distance of the ends 3.9 Angstrom.
    assert 1.3 < x[0] < 1.6
    assert 3.9 < x[-1] < 4.2
