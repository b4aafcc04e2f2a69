"""Distributions of distances and angles against known answers and brute force."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from numpy.testing import assert_allclose

from mlffjax.analysis.angles import AngleDistribution
from mlffjax.analysis.averages import MAX_BLOCKS, BlockAverage
from mlffjax.analysis.frames import continuous, continuous_frames, whole_molecules
from mlffjax.analysis.images import images_needed
from mlffjax.analysis.lists import lists_pay
from mlffjax.analysis.pairs import RadialDistribution
from mlffjax.analysis.results import Curves, Scalar
from mlffjax.data.frames import Frame
from mlffjax.md.bonds import Bonds, find_bonds
from mlffjax.md.trajectory_readers import FrameBlock, Trajectory
from mlffjax.neighbors import complete_cell, neighbor_list

TRICLINIC = np.array([[7.0, 0.0, 0.0], [3.0, 6.5, 0.0], [-2.0, 1.5, 8.0]])


def block(positions, cell=None) -> FrameBlock:
    positions = np.asarray(positions, np.float64)
    cell = np.zeros((3, 3)) if cell is None else np.asarray(cell)
    return FrameBlock(positions, np.broadcast_to(cell, (len(positions), 3, 3)))


def curves(observable, name) -> Curves:
    (found,) = (r for r in observable.results() if getattr(r, "name", "") == name)
    assert isinstance(found, Curves)
    return found


def test_block_average_of_a_stream():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1000, 3))
    average = BlockAverage()
    for part in np.array_split(values, 37):
        average.add(part)
    assert_allclose(average.mean(), values.mean(axis=0), rtol=1e-12)
    # Independent values: the error is that of the mean, known to a quarter.
    assert_allclose(average.error(), 1 / np.sqrt(1000), rtol=0.6)
    length = 64
    each = values[: 1000 // length * length].reshape(-1, length, 3).mean(axis=1)
    assert MAX_BLOCKS / 2 <= len(each) <= MAX_BLOCKS
    assert_allclose(average.error(), each.std(axis=0, ddof=1) / np.sqrt(len(each)), rtol=1e-12)


def test_block_average_sees_correlation():
    rng = np.random.default_rng(1)
    correlated = np.repeat(rng.normal(size=160), 50)
    average = BlockAverage()
    average.add(correlated)
    assert average.error() > 3 * correlated.std() / np.sqrt(len(correlated))
    alone = BlockAverage()
    alone.add(np.ones(1))
    assert np.isnan(alone.error())
    with pytest.raises(ValueError, match="no values"):
        BlockAverage().mean()


def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(0)
    numbers = np.array([1] * 40 + [8] * 20)
    rdf = RadialDistribution(numbers, np.ones(3, bool), 6.0, 6)
    rdf.add(block(rng.uniform(0, 1, (200, 60, 3)) @ TRICLINIC, TRICLINIC))
    result = curves(rdf, "rdf")
    assert result.labels == ("all", "H-H", "H-O", "O-O")
    expected = np.array([59 / 60, 39 / 40, 1.0, 19 / 20])
    deviation = np.abs(result.values - expected[:, None])
    assert (deviation[:, 2:] < 5 * result.errors[:, 2:]).all()
    assert (result.errors[:, 2:] < 0.05).all()
    running = curves(rdf, "coordination")
    density = 20 / np.linalg.det(TRICLINIC)
    index = running.labels.index("H-O")
    assert_allclose(running.values[index], 4 / 3 * np.pi * running.x**3 * density, rtol=0.1)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
def test_pairs_equal_the_neighbour_list(pbc):
    """A radius beyond the cell: images, also of the atom itself."""
    rng = np.random.default_rng(2)
    pbc = np.array(pbc, bool)
    numbers = np.array([1, 8, 1, 8, 8])
    cell = TRICLINIC * 0.5 * pbc[:, None]
    positions = rng.uniform(-3, 3, (3, 5, 3))
    rdf = RadialDistribution(numbers, pbc, 6.0, 30)
    rdf.add(block(positions, cell))
    counts = np.zeros((4, 30))
    for x in positions:
        near = neighbor_list(x, cell, pbc, 6.0)
        r = np.linalg.norm(x[near.senders] - x[near.receivers] + near.shifts @ cell, axis=1)
        ends = numbers[near.receivers] + numbers[near.senders]
        for k, chosen in enumerate((ends > 0, ends == 2, ends == 9, ends == 16)):
            counts[k] += np.histogram(r[chosen], rdf.edges)[0] / 3
    if pbc.all():
        shells = 4 / 3 * np.pi * np.diff(rdf.edges**3) / abs(np.linalg.det(cell))
        counts /= np.array([25, 4, 12, 9])[:, None] * shells
    elif pbc.any():  # images of the atom itself count: their number within r is the integral
        counts /= np.array([25, 4, 12, 9])[:, None] * 0.2
    else:
        counts /= np.array([20, 2, 12, 6])[:, None] * 0.2
    assert_allclose(curves(rdf, "rdf").values, counts, rtol=1e-6, atol=1e-9)


def test_a_crystal_has_its_shells():
    atoms = bulk("Ar", "fcc", a=4.0)
    rdf = RadialDistribution(atoms.numbers, atoms.pbc, 4.6, 460)
    rdf.add(block([atoms.positions], atoms.cell.array))
    running = curves(rdf, "coordination")
    assert_allclose(np.unique(running.values.round(6)), [0, 12, 18])
    (number,) = (r for r in rdf.results() if isinstance(r, Scalar))
    assert number.value == pytest.approx(12)
    assert number.name.startswith("coordination Ar-Ar (r < 3.")


def test_a_breathing_cell_keeps_its_density():
    """NPT: each frame is normalised by its own volume."""
    rng = np.random.default_rng(3)
    scale = rng.uniform(0.8, 1.2, 50)[:, None, None]
    positions = rng.uniform(0, 1, (50, 100, 3)) @ (np.eye(3) * 8 * scale)
    rdf = RadialDistribution(np.ones(100, int), np.ones(3, bool), 6.0, 4)
    rdf.add(FrameBlock(positions, np.eye(3) * 8 * scale))
    assert_allclose(curves(rdf, "rdf").values[0, 1:], 0.99, atol=0.02)


def test_distances_of_a_molecule():
    water = molecule("H2O")
    rdf = RadialDistribution(water.numbers, water.pbc, 3.0, 300)
    rdf.add(block([water.positions]))
    result = curves(rdf, "rdf")
    assert result.labels == ("all", "H-H", "H-O")
    assert_allclose(result.values.sum(axis=1) * 0.01, 1)
    peak = result.x[result.values[1].argmax()]
    assert peak == pytest.approx(water.get_distance(1, 2), abs=0.006)
    assert len(rdf.results()) == 1  # coordination needs a density


def test_angles_of_water():
    """Also where the molecule lies across a border."""
    water = molecule("H2O")
    angle = water.get_angle(1, 0, 2)
    cell = 5 * np.eye(3)
    for pbc, positions in ((False, water.positions), (True, water.positions % 5)):
        adf = AngleDistribution(water.numbers, np.full(3, pbc))
        adf.add(block([positions] * 3, cell * pbc))
        result = curves(adf, "adf")
        assert result.labels == ("H-O-H",)
        assert_allclose(result.values.sum(axis=1), 1)
        assert result.x[result.values[0].argmax()] == pytest.approx(angle, abs=0.5)


def test_angles_of_a_crystal_outgrow_the_room():
    atoms = bulk("Cu", "fcc", a=3.6)
    adf = AngleDistribution(atoms.numbers, atoms.pbc, cutoff=3.0, num_bins=36)
    adf.add(block([atoms.positions], atoms.cell.array))
    result = curves(adf, "adf")
    found = {5 * int(np.floor(x / 5)): v for x, v in zip(result.x, result.values[0], strict=True)}
    # Of 66 angles between 12 neighbours 24 are of 60 degrees, 12 of 90, 24 of 120, 6 of 180.
    shares = [5 * sum(found[a] for a in near) for near in ((55, 60), (85, 90), (115, 120), (175,))]
    assert_allclose(shares, np.array([24, 12, 24, 6]) / 66)


def test_angles_equal_those_of_ase():
    ethanol = molecule("CH3CH2OH")
    adf = AngleDistribution(ethanol.numbers, ethanol.pbc, num_bins=1800)
    adf.add(block([ethanol.positions]))
    result = curves(adf, "adf")
    bonds = find_bonds(Frame(ethanol.numbers, ethanol.positions, np.zeros((3, 3)), ethanol.pbc))
    oxygen = 2
    i, j = (int(p.sum()) - oxygen for p in bonds.pairs if oxygen in p)
    curve = result.values[result.labels.index("H-O-C")]
    assert result.x[curve.argmax()] == pytest.approx(ethanol.get_angle(i, oxygen, j), abs=0.051)


def test_no_angle_is_no_curve():
    adf = AngleDistribution(np.array([18, 18]), np.zeros(3, bool))
    adf.add(block([[[0, 0, 0], [4, 0, 0]]]))
    assert adf.results() == []


def frames_of(kind):
    """Three frames of some hundred atoms of two elements, and their cell and periodicity."""
    rng = np.random.default_rng(5)
    pbc = {"vacuum": (0, 0, 0), "slab": (1, 1, 0), "wire": (0, 1, 0)}.get(kind, (1, 1, 1))
    cell = {"triclinic": 2 * TRICLINIC, "short": 0.7 * TRICLINIC}.get(kind, 16 * np.eye(3))
    if kind == "slab":
        cell = cell + np.array([[0, 3.0, 0], [-4.0, 0, 0], [0, 0, 0]])
    cell = cell * np.array(pbc)[:, None]
    box = np.where(np.array(pbc)[:, None], cell, 3 * np.eye(3))
    positions = rng.uniform(-1, 2, (3, 150, 3)) @ box  # not wrapped into the cell
    positions[:, 7] = positions[:, 8]
    return np.where(rng.uniform(size=150) < 0.3, 8, 1), positions, cell, np.array(pbc, bool)


KINDS = ("cubic", "triclinic", "short", "slab", "wire", "vacuum")


@pytest.mark.parametrize("kind", KINDS)
def test_lists_give_the_pairs_of_all_pairs(kind):
    numbers, positions, cell, pbc = frames_of(kind)
    found = []
    for lists in (False, True):
        rdf = RadialDistribution(numbers, pbc, 5.0, 40, lists=lists)
        rdf.add(block(positions[:2], cell))
        rdf.add(block(positions[2:], cell))
        found.append(curves(rdf, "rdf"))
    every, listed = found
    assert every.values[:, 1:].any(axis=1).all()
    assert_allclose(listed.values, every.values, rtol=1e-12)
    assert_allclose(listed.errors, every.errors, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cutoff", [None, 2.5])
def test_lists_give_the_angles_of_all_pairs(kind, cutoff):
    numbers, positions, cell, pbc = frames_of(kind)
    found = []
    for lists in (False, True):
        adf = AngleDistribution(numbers, pbc, cutoff, num_bins=30, lists=lists)
        adf.add(block(positions, cell))
        found.append(curves(adf, "adf"))
    every, listed = found
    assert listed.labels == every.labels
    assert_allclose(listed.values, every.values, rtol=1e-12)


def test_lists_are_taken_where_they_pay():
    rng = np.random.default_rng(6)

    def choice(positions, cell, pbc, radius):
        box = complete_cell(cell, np.array(pbc, bool))
        images = images_needed(box[None], pbc, radius)
        return lists_pay(positions, box, np.array(pbc, bool), radius, len(images))

    gas, no_cell = rng.uniform(0, 40, (3000, 3)), np.zeros((3, 3))
    assert choice(gas, 40 * np.eye(3), (1, 1, 1), 6.0)
    assert choice(gas, no_cell, (0, 0, 0), 6.0)
    assert choice(gas[:30], 8 * np.eye(3), (1, 1, 1), 6.0)  # 27 images of each
    assert not choice(gas[:30], 40 * np.eye(3), (1, 1, 1), 6.0)
    assert not choice(gas[:30], no_cell, (0, 0, 0), 6.0)
    # A list of so many pairs would not fit, of atoms all within the radius, or of many images; an
    # atom that has flown away makes no difference.
    drop = rng.normal(size=(20_000, 3))
    drop[0] = 300.0
    assert not choice(drop, no_cell, (0, 0, 0), 10.0)
    assert choice(drop * 10, no_cell, (0, 0, 0), 10.0)
    assert not choice(gas, 40 * np.eye(3), (1, 1, 1), 60.0)


def test_wrapped_frames_become_continuous():
    rng = np.random.default_rng(4)
    water = molecule("H2O")
    path = water.positions + np.cumsum(rng.normal(size=(40, 3, 3)) * 0.02 + 0.3, axis=0)
    atoms = ase.Atoms(water.numbers, cell=TRICLINIC, pbc=True)
    wrapped = []
    for x in path:
        atoms.positions = x
        atoms.wrap()
        wrapped.append(atoms.positions.copy())
    pbc = np.ones(3, bool)
    bonds = find_bonds(Frame(water.numbers, wrapped[0], TRICLINIC, pbc))
    whole = block(wrapped, TRICLINIC)
    parts = [block(wrapped[:15], TRICLINIC), block(wrapped[15:], TRICLINIC)]
    for blocks in ([whole], parts):
        found = np.concatenate([b.positions for b in continuous(blocks, pbc, bonds)])
        offset = found[0] - path[0]
        assert_allclose(offset, np.broadcast_to(offset[:1], (3, 3)), atol=1e-9)
        assert_allclose(found - offset, path, atol=1e-9)


class Frames(Trajectory):
    """Frames in memory, in a cell of 10 Angstrom."""

    def __init__(self, positions):
        self.positions, self.numbers, self.pbc = positions, np.full(20, 18), np.ones(3, bool)

    def __len__(self):
        return len(self.positions)

    def read(self, start, stop, step=1):
        return block(self.positions[start:stop:step], 10 * np.eye(3))


def test_frames_that_were_never_wrapped_keep_their_steps():
    rng = np.random.default_rng(5)
    none = Bonds(np.zeros((0, 2), int), np.zeros((0, 3), int), np.zeros(0))
    start = rng.uniform(0, 10, (1, 20, 3))

    def found(path, frames):
        blocks = continuous_frames(Frames(path), frames, none)
        return np.concatenate([b.positions for b in blocks])

    # Steps beyond half the cell, as of a file that has few frames.
    far = start + np.cumsum(rng.normal(scale=4.0, size=(60, 20, 3)), axis=0)
    assert_allclose(found(far, range(3, 60, 2)), far[3::2], atol=1e-12)
    # Frames that were wrapped follow each other closely, those that are asked for do not.
    near = start + np.cumsum(rng.normal(scale=0.8, size=(3000, 20, 3)), axis=0)
    unwrapped = found(near % 10.0, range(5, 3000, 50))
    assert_allclose(unwrapped - unwrapped[0], near[5::50] - near[5], atol=1e-9)


def test_each_of_many_molecules_becomes_whole():
    """Six chains of twelve atoms, each atom wrapped elsewhere, and an atom of its own."""
    rng = np.random.default_rng(7)
    i = np.arange(72).reshape(6, 12)[:, :-1].ravel()
    wrapped = rng.integers(-2, 3, (73, 3))
    order = rng.permutation(len(i))
    bonds = Bonds(
        np.stack([i, i + 1], axis=1)[order], (wrapped[i] - wrapped[i + 1])[order], np.ones(len(i))
    )
    found = whole_molecules(bonds, 73) + wrapped
    assert_allclose(found, np.repeat(found[[*range(0, 72, 12), 72]], [12] * 6 + [1], axis=0))
    assert (found[72] == wrapped[72]).all()
