"""Criteria A and B, the stability coefficient, and the bonds they rest on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, graphene, molecule
from numpy.testing import assert_allclose

from mlffjax.data.frames import Frame
from mlffjax.md import bonds as md_bonds
from mlffjax.md import stability


def _frame(atoms) -> Frame:
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def _broken(frame, bonds, positions=None):
    positions = frame.positions if positions is None else positions
    return np.asarray(
        jax.jit(stability.broken_bonds)(
            jnp.asarray(positions), bonds.pairs, bonds.lengths, bonds.shifts, frame.cell
        )
    )


def test_bonds_of_a_molecule():
    frame = _frame(molecule("CH3CH2OH"))
    bonds = md_bonds.find_bonds(frame)
    assert len(bonds.pairs) == 8
    assert (bonds.pairs[:, 0] < bonds.pairs[:, 1]).all()
    assert 0.9 < bonds.lengths.min() < bonds.lengths.max() < 1.6


@pytest.mark.parametrize(
    ("atoms", "per_atom"),
    [
        (bulk("C", "diamond", a=3.567), 2),
        (bulk("Si", "diamond", a=5.43, cubic=True), 2),
        # One carbon with its own images at the C-C distance: bonds from an atom to itself.
        (bulk("C", "sc", a=1.5), 3),
        (graphene(vacuum=5.0), 1.5),
    ],
)
def test_bonds_across_periodic_borders(atoms, per_atom):
    frame = _frame(atoms)
    bonds = md_bonds.find_bonds(frame)
    assert len(bonds.pairs) == per_atom * len(atoms)
    vectors = frame.positions[bonds.pairs[:, 1]] - frame.positions[bonds.pairs[:, 0]]
    assert_allclose(np.linalg.norm(vectors + bonds.shifts @ frame.cell, axis=1), bonds.lengths)
    assert not _broken(frame, bonds).any()
    # Atoms that drift across a border without being wrapped keep their bonds.
    assert not _broken(frame, bonds, frame.positions + 2.5 * frame.cell[0]).any()


@pytest.mark.parametrize(("factor", "expected"), [(1.49, False), (1.51, True), (0.51, False),
                                                  (0.49, True), (np.nan, True)])  # fmt: skip
def test_a_bond_is_broken_beyond_half_its_length(factor, expected):
    frame = _frame(molecule("CH3CH2OH"))
    bonds = md_bonds.find_bonds(frame)
    # The hydroxyl hydrogen has one bond only: move it along that bond.
    hydrogen = 3
    (index,) = np.flatnonzero((bonds.pairs == hydrogen).any(axis=1))
    other = bonds.pairs[index].sum() - hydrogen
    moved = frame.positions.copy()
    moved[hydrogen] = moved[other] + factor * (moved[hydrogen] - moved[other])
    broken = _broken(frame, bonds, moved)
    assert broken[index] == expected
    assert broken.sum() == expected
    text = stability.describe_broken(frame.numbers, moved, frame.cell, bonds, broken)
    if expected:
        assert text.startswith("broken bond O2-H3 (")
        assert f"{bonds.lengths[index]:.2f} Å at the start" in text
    else:
        assert text == ""


def test_the_worst_bonds_are_named_first():
    frame = _frame(molecule("CH4"))
    bonds = md_bonds.find_bonds(frame)
    moved = frame.positions * np.array([1, 1.6, 1.7, 1.8, 3.0])[:, None]
    broken = _broken(frame, bonds, moved)
    text = stability.describe_broken(frame.numbers, moved, frame.cell, bonds, broken)
    assert text.startswith("broken bonds C0-H4 (3.2")
    assert text.endswith("and 1 more")


def test_replicas_are_mapped():
    frame = _frame(molecule("CH4"))
    bonds = md_bonds.find_bonds(frame)
    scales = jnp.asarray([1.0, 1.6, 0.4])[:, None, None]
    many = jax.vmap(stability.broken_bonds, (0, None, None, None, None))(
        scales * frame.positions, bonds.pairs, bonds.lengths, bonds.shifts, frame.cell
    )
    assert many.tolist() == [[False] * 4, [True] * 4, [True] * 4]


def test_the_limit_of_the_temperature():
    assert stability.spike_limit(300.0) == 10_000
    assert stability.spike_limit(2000.0) == 20_000


def test_stability_coefficient():
    assert stability.stability_coefficient([600_000] * 6, 600_000) == 1
    assert stability.stability_coefficient([0, 300_000], 600_000) == 0.25
    for steps, total in (([], 10), ([11], 10), ([-1], 10)):
        with pytest.raises(ValueError, match="expected at least one run"):
            stability.stability_coefficient(steps, total)
