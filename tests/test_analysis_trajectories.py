"""Several trajectories in one analysis; times, masses and frames that would give wrong numbers."""

from pathlib import Path

import ase
import h5py
import numpy as np
import pytest
from ase.io import write

from mlffjax.analysis import AnalysisSettings, analyze, open_frames
from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.correlation import Diffusion, VelocityCorrelation
from mlffjax.analysis.results import Curves, Scalar
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.units import BOLTZMANN

RNG = np.random.default_rng(3)
THERMO = AnalysisSettings(what=("thermo",))


def gas(count: int = 40, **arguments) -> list[ase.Atoms]:
    """Frames 2 fs apart of deuterated methyl, say, at 300 K; periodic, so that nothing rotates."""
    images = []
    for k in range(count):
        atoms = ase.Atoms("CH3", RNG.uniform(0, 9, (4, 3)), cell=9 * np.eye(3), pbc=True)
        if arguments:
            atoms.set_masses(arguments["masses"])
        thermal = np.sqrt(atoms.get_masses() * BOLTZMANN * 300)[:, None]
        atoms.set_momenta(thermal * RNG.normal(size=(4, 3)))
        atoms.info["time_fs"] = 2.0 * k
        images.append(atoms)
    return images


def scalars(path: Path, settings: AnalysisSettings = THERMO) -> dict[str, Scalar]:
    with open_frames(path) as frames:
        results = analyze(frames, settings).results
    return {result.name: result for result in results if isinstance(result, Scalar)}


def test_errors_of_streams_are_no_smaller_than_their_scatter():
    """Each of four streams stays at a value of its own: blocks within one agree."""
    values = RNG.normal(size=(4, 1)) + 1e-3 * RNG.normal(size=(4, 300))
    streams, one = BlockAverage(), BlockAverage()
    for stream in values:
        streams.next_stream()
        for part in np.array_split(stream, 7):
            streams.add(part)
            one.add(part)
    assert streams.mean() == pytest.approx(values.mean())
    scatter = values.mean(axis=1).std(ddof=1) / 2
    assert streams.error() == pytest.approx(max(scatter, float(one.error())))
    assert one.error() < 0.8 * scatter
    square = streams.error(lambda mean: mean**2)
    assert square >= (values.mean(axis=1) ** 2).std(ddof=1) / 2 * (1 - 1e-12)


def test_no_frame_is_correlated_with_another_trajectory():
    """Atoms of the one go one way, those of the other the opposite, from somewhere else."""
    numbers, pbc = np.full(2, 18), np.ones(3, bool)
    vacf, msd = VelocityCorrelation(numbers, 1.0, 5), Diffusion(numbers, pbc, 1.0, 5)
    for sign, place in ((1.0, 0.0), (-1.0, 100.0)):
        steps = sign * np.arange(13.0)[:, None, None] * np.array([[1.0], [-1.0]])
        x = np.broadcast_to(place + steps, (13, 2, 3))
        v = np.broadcast_to(sign * np.array([[1.0], [-1.0]]), (13, 2, 3))
        block = FrameBlock(x, np.broadcast_to(np.eye(3), (13, 3, 3)), v)
        for observable in (vacf, msd):
            observable.next_trajectory()
            observable.add(block)
    correlation, displacement = vacf.results()[0], msd.results()[0]
    assert isinstance(correlation, Curves)
    assert isinstance(displacement, Curves)
    np.testing.assert_allclose(correlation.values[0], 1, atol=1e-6)
    np.testing.assert_allclose(displacement.values[0], 3 * np.arange(5) ** 2, atol=1e-4)


@pytest.mark.parametrize("suffix", ["traj", "extxyz"])
def test_masses_of_isotopes_count(tmp_path, suffix):
    """The temperature is that of the file's masses, whatever the elements weigh."""
    heavy = [12.0, 2.014, 2.014, 3.016]
    write(tmp_path / f"a.{suffix}", gas(100, masses=heavy))
    found = scalars(tmp_path / f"a.{suffix}")
    assert found["temperature"].value == pytest.approx(300, abs=45)
    density = sum(heavy) / 729 / 0.602214
    assert found["density"].value == pytest.approx(density, rel=1e-4)


def test_masses_of_h5md_count(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("particles/all")
        group["species"], group["mass"] = [1, 1], [2.014, 2.014]
        box = group.create_group("box")
        box.attrs["boundary"] = ["periodic"] * 3
        box["edges"] = 5 * np.eye(3)
        group["position/value"], group["position/time"] = RNG.uniform(0, 5, (4, 2, 3)), range(4)
    assert scalars(tmp_path / "a.h5")["density"].value == pytest.approx(
        4.028 / 125 / 0.602214, 1e-4
    )


@pytest.mark.parametrize(
    ("unit", "species", "message"),
    [("nm", 1, "got positions in nm; expected Angstrom"), ("Angstrom", 0, "got the species")],
)
def test_h5md_in_other_units_is_refused(tmp_path, unit, species, message):
    """With one interval for all frames, as the layout allows."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("particles/all")
        group["species"] = [1, species]
        box = group.create_group("box")
        box.attrs["boundary"] = ["none"] * 3
        box["edges"] = np.zeros(3)
        group["position/value"], group["position/time"] = RNG.uniform(0, 5, (4, 2, 3)), 2.5
        group["position/time"].attrs["offset"] = 10.0
        group["position/value"].attrs["unit"] = unit
    with pytest.raises(ValueError, match=message):
        open_frames(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["particles/all/species"][1] = 8
        file["particles/all/position/value"].attrs["unit"] = "Angstrom"
    with open_frames(tmp_path / "a.h5") as frames:
        assert frames.numbers.tolist() == [1, 8]
        assert frames.read(1, 4, 2).time_fs.tolist() == [12.5, 17.5]


def test_frames_of_one_atom_keep_their_velocities(tmp_path):
    write(tmp_path / "a.traj", [atoms[[0]] for atoms in gas()])
    assert scalars(tmp_path / "a.traj")["temperature"].value > 100


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(40) % 20, "expected them evenly spaced"),
        (np.arange(40) + (np.arange(40) > 9), "expected them evenly spaced"),
        (np.zeros(40), "without times in order"),
    ],
    ids=["joined", "gap", "still"],
)
def test_uneven_times_are_refused(tmp_path, times, message):
    images = gas()
    for atoms, time in zip(images, times, strict=True):
        atoms.info["time_fs"] = 2.0 * float(time)
    write(tmp_path / "a.traj", images)
    with open_frames(tmp_path / "a.traj") as frames:
        with pytest.raises(ValueError, match=message):
            analyze(frames, AnalysisSettings(what=("spectrum",)))
        given = AnalysisSettings(what=("spectrum",), frame_fs=2.0)
        assert analyze(frames, given).frames == 40


def test_trajectories_must_go_together(tmp_path):
    slow, fewer = gas(), gas(4)
    for atoms in slow:
        atoms.info["time_fs"] *= 2
    for name, images in (("a", gas()), ("slow", slow), ("few", fewer)):
        write(tmp_path / f"{name}.traj", images)
    spectrum = AnalysisSettings(what=("spectrum",))
    with (
        open_frames(tmp_path / "a.traj") as a,
        open_frames(tmp_path / "slow.traj") as b,
        open_frames(tmp_path / "few.traj") as c,
    ):
        with pytest.raises(ValueError, match="frames 2 fs and 4 fs apart"):
            analyze([a, b], spectrum)
        found = analyze([a, c], spectrum)
    assert "1 of 2 trajectories are too short for time correlations" in found.notes
    assert (found.frames, found.trajectories) == (44, 2)


def test_frames_that_would_give_wrong_numbers_are_named(tmp_path):
    images = gas()
    images[7].positions[2] = np.nan
    write(tmp_path / "nan.traj", images)
    with pytest.raises(ValueError, match=r"nan.traj#7: got positions .* stop=7"):
        scalars(tmp_path / "nan.traj")
    assert scalars(tmp_path / "nan.traj", AnalysisSettings(what=("thermo",), stop=7))
    wrong = AnalysisSettings(what=("dihedrals",), dihedrals=((0, 1, 2, 2),), stop=7)
    with pytest.raises(ValueError, match="four different atoms"):
        scalars(tmp_path / "nan.traj", wrong)
    images = gas()
    images[5].pbc = [True, True, False]
    for name in ("pbc.traj", "pbc.extxyz"):
        write(tmp_path / name, images)
        with pytest.raises(ValueError, match=f"{name}#5: got other periodic directions"):
            scalars(tmp_path / name)
    for line, message in (("D 0 0 0", "got the species D"), ("8 0 0 0", "got the species 8")):
        (tmp_path / "d.xyz").write_text(2 * f"2\n\n{line}\nH 0 0 1\n")
        with pytest.raises(ValueError, match=message):
            scalars(tmp_path / "d.xyz")
    (tmp_path / "z.xyz").write_text("1\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n")
    with pytest.raises(ValueError, match="has no species or pos"):
        scalars(tmp_path / "z.xyz")
