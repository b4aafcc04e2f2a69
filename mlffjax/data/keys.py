"""Names under which files keep labels, in the order in which they are looked for.

One name is chosen for a whole file: the first of the order that any of its frames has. A
frame that lacks it but has a later one makes the file ambiguous, which is an error.
"""

from collections.abc import Iterable, Mapping, Sequence

#: ``REF_`` comes first: who writes it sets the reference apart from a calculator's results.
ENERGY_KEYS = (
    "REF_energy",
    "energy",
    "dft_energy",
    "DFT_energy",
    "TotEnergy",
    "total_energy",
    "Energy",
    "E",
    "energies",
)
FORCES_KEYS = (
    "REF_forces",
    "forces",
    "dft_forces",
    "DFT_forces",
    "dft_force",
    "force",
    "Forces",
    "F",
)
STRESS_KEYS = ("REF_stress", "stress", "dft_stress", "DFT_stress", "Stress")
#: Read as ``-V stress`` unless the sign is given, the custom of QUIP and MACE.
VIRIAL_KEYS = ("REF_virial", "virial", "dft_virial", "DFT_virial", "REF_virials", "virials")
GROUP_KEYS = ("config_type", "group")

#: The orders of what a potential is compared with.
LABEL_KEYS = {"energy": ENERGY_KEYS, "forces": FORCES_KEYS, "stress": STRESS_KEYS}

POSITION_KEYS = ("pos", "coords", "R", "positions")
NUMBER_KEYS = ("atomic_numbers", "nuclear_charges", "z", "Z", "numbers")
CELL_KEYS = ("cell", "lattice")
PBC_KEYS = ("pbc",)


def choose_key(
    what: str,
    explicit: str | None,
    order: Sequence[str],
    records: Iterable[Mapping],
    source: str,
) -> str | None:
    """The name under which a file keeps one label.

    Args:
      what: the label, for messages.
      explicit: the name the user gave, or ``None``.
      order: names to look for.
      records: the names each frame has, as mappings.
      source: the file, for messages.

    Returns:
      The name, or ``None`` where no frame has any of them.

    Raises:
      ValueError: the explicit name is in no frame, or frames use different names.
    """
    records = list(records)
    if explicit is not None:
        if not any(explicit in record for record in records):
            seen = sorted({str(name) for record in records for name in record})
            raise ValueError(
                f"{source}: got no {what} named {explicit!r}; expected it in the file, which has "
                f"{', '.join(seen) or 'no names at all'}; set keys.{what}"
            )
        return explicit
    chosen = next((k for k in order if any(k in record for record in records)), None)
    if chosen is None:
        return None
    for index, record in enumerate(records):
        other = next((k for k in order if k in record), None)
        if chosen not in record and other is not None:
            raise ValueError(
                f"{source}#{index}: got the {what} under {other!r}, other frames have it under "
                f"{chosen!r}; expected one name; set keys.{what}, or rename it in the file"
            )
    return chosen
