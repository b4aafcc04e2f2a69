"""Conversion to the package's units: eV, Angstrom, fs, amu, kelvin.

Values follow from CODATA 2018 (Tiesinga et al., Rev. Mod. Phys. 93, 025010, 2021), the set
that ASE, PySCF and most data sets use; the thermochemical calorie is 4.184 J by definition.
"""

ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact in the SI
AVOGADRO = 6.02214076e23  # 1/mol, exact in the SI
PLANCK = 6.62607015e-34 * 1e15 / ELEMENTARY_CHARGE  # eV fs, exact in the SI
BOLTZMANN = 1.380649e-23 / ELEMENTARY_CHARGE  # eV/K
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Angstrom
KCAL_PER_MOL = 4184.0 / (AVOGADRO * ELEMENTARY_CHARGE)  # eV
KJ_PER_MOL = 1000.0 / (AVOGADRO * ELEMENTARY_CHARGE)  # eV
GPA = 1e9 * 1e-30 / ELEMENTARY_CHARGE  # eV/Angstrom^3
AMU = 1.66053906660e-27  # kg
#: One amu (Angstrom/fs)^2 in eV: kinetic energies from amu and Angstrom/fs.
AMU_ANGSTROM2_PER_FS2 = AMU * 1e10 / ELEMENTARY_CHARGE
SPEED_OF_LIGHT_CM_PER_FS = 2.99792458e-5  # exact
#: Coulomb constant e^2/(4 pi eps0) in eV Angstrom.
COULOMB = HARTREE * BOHR

ENERGY = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": HARTREE,
    "Ha": HARTREE,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "Ry": HARTREE / 2,
}
LENGTH = {"Angstrom": 1.0, "Ang": 1.0, "Bohr": BOHR, "nm": 10.0, "pm": 0.01, "Å": 1.0, "A": 1.0}
PRESSURE = {
    "eV/Angstrom^3": 1.0,
    "GPa": GPA,
    "kbar": 0.1 * GPA,
    "bar": 1e-4 * GPA,
    "Hartree/Bohr^3": HARTREE / BOHR**3,
    "eV/Å^3": 1.0,
    "eV/A^3": 1.0,
}


def conversion(unit: str, table: dict[str, float]) -> float:
    """Factor from ``unit`` to the package's unit.

    Args:
      unit: a name in ``table``.
      table: one of :data:`ENERGY`, :data:`LENGTH`, :data:`PRESSURE`.

    Raises:
      ValueError: the unit is not in the table.

    >>> round(conversion("kcal/mol", ENERGY), 6)
    0.043364
    """
    try:
        return table[unit]
    except KeyError:
        raise ValueError(f"unknown unit {unit!r}; expected one of {', '.join(table)}") from None
