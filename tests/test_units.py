"""Unit conversions against ASE's, which follow another CODATA set to nine digits."""

import pytest
from ase import units as ase_units

from mlffjax import units


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (units.HARTREE, ase_units.Hartree),
        (units.BOHR, ase_units.Bohr),
        (units.KCAL_PER_MOL, ase_units.kcal / ase_units.mol),
        (units.KJ_PER_MOL, ase_units.kJ / ase_units.mol),
        (units.GPA, ase_units.GPa),
        (units.BOLTZMANN, ase_units.kB),
        # ASE's unit of time is Angstrom sqrt(amu / eV).
        (units.AMU_ANGSTROM2_PER_FS2, 1 / ase_units.fs**2),
        (units.COULOMB, ase_units.Hartree * ase_units.Bohr),
    ],
)
def test_constants(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "table", "expected"),
    [
        ("eV", units.ENERGY, 1.0),
        ("meV", units.ENERGY, 1e-3),
        ("Ry", units.ENERGY, 13.605693),
        ("kcal/mol", units.ENERGY, 0.0433641),
        ("nm", units.LENGTH, 10.0),
        ("kbar", units.PRESSURE, 6.2415091e-4),
        ("bar", units.PRESSURE, 6.2415091e-7),
        ("Hartree/Bohr^3", units.PRESSURE, 183.63153),
    ],
)
def test_conversion(unit: str, table: dict[str, float], expected: float) -> None:
    assert units.conversion(unit, table) == pytest.approx(expected, rel=1e-6)


def test_unknown_unit_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"'furlong'; expected one of Angstrom, Ang, Bohr"):
        units.conversion("furlong", units.LENGTH)
