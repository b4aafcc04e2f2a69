"""Trajectories and logs on disk."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import ase.units
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import LennardJones
from ase.build import bulk
from numpy.testing import assert_allclose

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import trajectory
from mlffjax.md.ase_trajectory import AseTrajectoryWriter
from mlffjax.md.engine import run_md
from mlffjax.md.records import Block, Thermo
from mlffjax.md.trajectory_readers import open_trajectory
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


def _block(steps, scale=1.0):
    """A made-up block of two argon atoms in a cell that grows."""
    step = np.asarray(steps)
    table = Thermo(step, 2.0 * step, *(np.full(len(step), scale) for _ in range(4)))
    vectors = np.broadcast_to(scale * step[:, None, None], (len(step), 2, 3)).astype(float)
    cell = (9.0 + 0.01 * step)[:, None, None] * np.eye(3)
    return Block(table, step, 2.0 * step, 1.0 * step, vectors, vectors, vectors, cell)


FRAME = Frame(np.array([18, 18]), np.zeros((2, 3)), 9 * np.eye(3), np.ones(3, bool))


def _writers(folder, **kwargs):
    settings = MDSettings(ensemble="nve", trajectory_format=kwargs.pop("form", "extxyz"))
    return trajectory.open_writers(folder, FRAME, settings, overwrite=False, **kwargs)


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
    frames = list(open_trajectory(tmp_path / "run" / "trajectory.extxyz"))
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
    with open_trajectory(tmp_path / "run" / "trajectory.h5") as frames:
        assert len(frames) == 7
        assert_allclose(frames[-1].positions, keep.all("positions")[-1], rtol=1e-6, atol=1e-6)
        assert_allclose(frames[3].forces, keep.all("forces")[3], rtol=1e-6, atol=1e-6)
        assert_allclose(frames.read(3, 4).velocities[0], keep.all("velocities")[3], rtol=1e-6)
        assert [f.energy for f in frames[2:4]] == keep.all("energy")[2:4].tolist()
        assert_allclose(frames.read(0, len(frames)).time_fs, np.arange(7) * 20.0)
        assert frames[0].pbc.tolist() == [True, True, False]
        with pytest.raises(IndexError):
            frames[7]


def test_traj(tmp_path):
    writers = _writers(tmp_path, form="traj")
    for writer in writers:
        writer.write(_block([0, 10, 20]))
    path = tmp_path / "trajectory.traj"
    with open_trajectory(path) as frames:  # while it is written
        assert len(frames) == 3
    for writer in writers:
        writer.close()
    expected = _block([0, 10, 20])
    with open_trajectory(path) as frames:
        block = frames.read(0, 3)
        for name in ("positions", "velocities", "forces", "cell", "energy", "time_fs"):
            assert_allclose(getattr(block, name), getattr(expected, name))
    last = ase.io.read(path)
    assert isinstance(last, ase.Atoms)
    assert_allclose(last.get_velocities() * ase.units.fs, expected.velocities[-1])
    assert last.info == {"step": 20, "time_fs": 40.0}
    with pytest.raises(FileExistsError):
        AseTrajectoryWriter(path, FRAME)
    with open_trajectory(path) as frames:
        assert len(frames) == 3


def write_until_killed(folder):
    """Writes blocks in all formats for long; what the process that is killed executes."""
    writers = [
        trajectory.ExtxyzWriter(folder / "a.extxyz", FRAME),
        AseTrajectoryWriter(folder / "a.traj", FRAME),
        trajectory.H5MDWriter(folder / "a.h5", FRAME, moving_cell=True),
    ]
    for k in range(20_000):
        for writer in writers:
            writer.write(_block(np.arange(20 * k, 20 * (k + 1))))


def test_files_of_a_killed_writer_are_whole(tmp_path):
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from pathlib import Path\n"
        "from test_md_trajectory import write_until_killed\n"
        f"write_until_killed(Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    last = tmp_path / "a.traj"
    while not last.exists() or last.stat().st_size < 100_000:
        assert process.poll() is None, process.communicate()[1].decode()[-1000:]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    for name in ("a.extxyz", "a.traj", "a.h5"):
        with open_trajectory(tmp_path / name) as frames:
            count = len(frames)
            assert count > 50
            block = frames.read(0, count)
        steps = np.arange(count)
        assert_allclose(block.positions[:, 0, 0], steps)
        assert_allclose(block.cell[:, 0, 0], 9 + 0.01 * steps)
        assert_allclose(block.time_fs, 2.0 * steps)


def test_what_is_no_trajectory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path"):
        open_trajectory(tmp_path / "none.traj")
    for name, message in (("a.pdb", "unknown format"), ("a.traj", "cannot be read"),
                          ("a.h5", "cannot be read"), ("a.xyz", "number of atoms")):  # fmt: skip
        (tmp_path / name).write_text("what is this")
        with pytest.raises(ValueError, match=message):
            open_trajectory(tmp_path / name)
    (tmp_path / "b.xyz").write_text("1\n\nH 0 0 0\n1\n\nHe 0 0 0\n")
    with pytest.raises(ValueError, match=r"b\.xyz#1: got other atoms"):
        open_trajectory(tmp_path / "b.xyz").read(0, 2)
    (tmp_path / "c.xyz").write_text("1\n\nH 0 0 zero\n")
    with pytest.raises(ValueError, match=r"c\.xyz#0: got a table"):
        open_trajectory(tmp_path / "c.xyz")


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
    assert len(list(open_trajectory(path))) == 7


def test_a_half_written_frame_is_left_out(tmp_path):
    _run(tmp_path, "extxyz")
    path = tmp_path / "trajectory.extxyz"
    text = path.read_text()
    # In the middle of the last number, of a frame, and of the line with the number of atoms.
    for cut, frames in ((-1, 6), (-100, 6), (text.rindex("Lattice") - 1, 6), (-len(text) + 1, 0)):
        path.write_text(text[:cut])
        if frames:
            assert len(open_trajectory(path)) == frames
        else:
            with pytest.raises(ValueError, match="no whole frame"):
                open_trajectory(path)


@pytest.mark.parametrize("form", ["extxyz", "traj", "h5md"])
def test_files_go_on_from_their_marks(tmp_path, form):
    whole = _writers(tmp_path / "whole", form=form)
    parts = _writers(tmp_path / "parts", form=form)
    for writer in (*whole, *parts):
        writer.write(_block([0, 1]))
    marks = {writer.path.name: writer.mark() for writer in parts}
    for writer in parts:
        writer.write(_block([2, 3, 4], scale=7.0))
        writer.close()
    parts = _writers(tmp_path / "parts", form=form, resume_at=marks)
    for writer in (*whole, *parts):
        writer.write(_block([2, 3]))
        writer.close()
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == sorted(marks)
    if form == "extxyz":
        for name in names:
            assert (tmp_path / "whole" / name).read_bytes() == (
                tmp_path / "parts" / name
            ).read_bytes()
        return
    with open_trajectory(tmp_path / "parts" / trajectory.TRAJECTORY_FILE[form]) as frames:
        assert_allclose([f.positions[0, 0] for f in frames], np.arange(4))
        assert_allclose(frames.read(0, len(frames)).time_fs, 2.0 * np.arange(4))


def test_a_file_shorter_than_its_mark_is_refused(tmp_path):
    for writer in _writers(tmp_path):
        writer.close()
    with pytest.raises(ValueError, match="that the restart knows"):
        _writers(tmp_path, resume_at={"thermo.csv": 10_000, "trajectory.extxyz": 0})


def test_h5md_survives_a_writer_that_never_closes(tmp_path):
    path = tmp_path / "trajectory.h5"
    alive = trajectory.H5MDWriter(tmp_path / "alive.h5", FRAME, moving_cell=True)
    for k in range(5):
        alive.write(_block([2 * k, 2 * k + 1]))
    shutil.copy(alive.path, path)  # what is on the disk now is what a kill would leave
    alive.close()
    with open_trajectory(path) as frames:
        assert len(frames) == 10
        assert_allclose(frames[9].cell, 9.09 * np.eye(3))
    writer = trajectory.H5MDWriter(path, FRAME, moving_cell=True, resume_at=3)
    writer.write(_block([3]))
    writer.close()
    with open_trajectory(path) as frames:
        assert_allclose([f.positions[0, 0] for f in frames], np.arange(4))


def test_extxyz_has_the_cell_of_each_frame(tmp_path):
    for writer in _writers(tmp_path):
        writer.write(_block([0, 50]))
        writer.close()
    cells = [f.cell for f in open_trajectory(tmp_path / "trajectory.extxyz")]
    assert_allclose(cells, [9.0 * np.eye(3), 9.5 * np.eye(3)])


def test_a_full_disk_is_named_and_tears_no_frame(tmp_path):
    path = tmp_path / "trajectory.extxyz"
    writer = trajectory.ExtxyzWriter(path, FRAME)
    writer.write(_block([0, 1, 2]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*trajectory\.extxyz"):
            writer.write(_block([3, 4, 5]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()
    assert len(list(open_trajectory(path))) == 3
