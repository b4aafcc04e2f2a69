"""Trajectories and logs on disk."""

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import LennardJones
from ase.build import bulk
from numpy.testing import assert_allclose

from mlffjax.config.md import MDSettings
from mlffjax.md import trajectory
from mlffjax.md.engine import run_md
from mlffjax.potential import Potential

E0 = -1000.0


class Keep:
    """A writer that keeps its blocks."""

    def __init__(self):
        self.blocks = []

    def write(self, block):
        self.blocks.append(block)

    def close(self):
        """Nothing to close."""

    def all(self, name):
        return np.concatenate([getattr(b, name) for b in self.blocks])


def _run(folder, form, overwrite=False):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.pbc = [True, True, False]
    module = LennardJones(cutoff=5.0)
    potential = Potential.init(module, [18], jax.random.key(0), baseline=[E0], dtype=jnp.float64)
    settings = MDSettings(
        ensemble="nve",
        steps=60,
        timestep_fs=2.0,
        temperature=50.0,
        thermo_interval=5,
        frame_interval=10,
        chunk_steps=20,
        trajectory_format=form,
    )
    keep = Keep()
    result = run_md(potential, atoms, settings, folder=folder, overwrite=overwrite, writers=[keep])
    return result, keep


def test_extxyz(tmp_path):
    result, keep = _run(tmp_path / "run", "extxyz")
    frames = list(trajectory.read_extxyz(tmp_path / "run" / "trajectory.extxyz"))
    assert len(frames) == 7
    assert_allclose([f.positions for f in frames], keep.all("positions"), rtol=1e-8)
    assert_allclose([f.forces for f in frames], keep.all("forces"), rtol=1e-8)
    assert_allclose([f.energy for f in frames], keep.all("energy"), rtol=1e-12)
    assert frames[-1].energy == pytest.approx(result.thermo.potential[-1] + 4 * E0, abs=1e-9)
    by_ase = ase.io.read(tmp_path / "run" / "trajectory.extxyz", "2")
    assert isinstance(by_ase, ase.Atoms)
    assert_allclose(by_ase.positions, frames[2].positions)
    assert_allclose(by_ase.get_forces(), frames[2].forces)
    assert_allclose(by_ase.arrays["velocities"], keep.all("velocities")[2], rtol=1e-8)
    assert by_ase.pbc.tolist() == [True, True, False] == frames[2].pbc.tolist()
    assert_allclose(by_ase.cell[:], frames[2].cell)
    assert by_ase.info["time_fs"] == 40.0


def test_h5md(tmp_path):
    _, keep = _run(tmp_path / "run", "h5md")
    with trajectory.H5MDTrajectory(tmp_path / "run" / "trajectory.h5") as frames:
        assert len(frames) == 7
        assert_allclose(frames[-1].positions, keep.all("positions")[-1], rtol=1e-6, atol=1e-6)
        assert_allclose(frames[3].forces, keep.all("forces")[3], rtol=1e-6, atol=1e-6)
        assert_allclose(frames.velocities(3), keep.all("velocities")[3], rtol=1e-6)
        assert [f.energy for f in frames[2:4]] == keep.all("energy")[2:4].tolist()
        assert_allclose(frames.times(), np.arange(7) * 20.0)
        assert frames[0].pbc.tolist() == [True, True, False]
        with pytest.raises(IndexError):
            frames[7]


def test_thermo_log(tmp_path):
    result, _ = _run(tmp_path / "run", "extxyz")
    table = trajectory.read_thermo(tmp_path / "run" / "thermo.csv")
    assert table.step.tolist() == list(range(0, 61, 5))
    for name in ("time_fs", "potential", "kinetic", "conserved", "temperature"):
        assert_allclose(getattr(table, name), getattr(result.thermo, name), rtol=1e-8)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "trajectory.extxyz"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        _run(tmp_path, "extxyz")
    assert path.read_text() == "precious"
    assert not (tmp_path / "thermo.csv").exists()
    _run(tmp_path, "extxyz", overwrite=True)
    assert len(list(trajectory.read_extxyz(path))) == 7


def test_a_broken_file_is_reported(tmp_path):
    _run(tmp_path, "extxyz")
    path = tmp_path / "trajectory.extxyz"
    path.write_text(path.read_text()[:-100])
    with pytest.raises(ValueError, match="incomplete frame 6"):
        list(trajectory.read_extxyz(path))
