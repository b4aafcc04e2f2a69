"""``mlffjax scan``: the energy along one or two coordinates."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mlffjax.cli import arguments

if TYPE_CHECKING:
    import ase

    from mlffjax.data import Frame
    from mlffjax.explore.coordinates import Coordinate

EXAMPLES = """
mlffjax scan runs/ethanol minimum.xyz --dihedral 0 1 2 3 -180 180 37 --out runs/rotor
mlffjax scan runs/ethanol minimum.xyz --dihedral 0 1 2 3 -180 180 37 --relaxed fmax=0.02
mlffjax scan runs/bilayer ab.xyz --slide 4:8 1 0 0 0 2.46 13 --slide 4:8 0 1 0 0 4.26 22
"""


class _Append(argparse.Action):
    """Keep the coordinates in the order they are given, whatever their kind."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        del parser
        kind = str(option_string).lstrip("-")
        namespace.coordinates = [*(namespace.coordinates or []), (kind, values)]


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "scan", "energy along one or two coordinates", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("structure", metavar="STRUCTURE", help="where to start, any ASE format")
    arguments.add_settings(
        parser,
        "settings of the relaxation, such as fmax=0.02 steps=500; "
        "all of them: mlffjax settings relax",
    )
    grid = ("FROM", "TO", "POINTS")
    for name, what, names in (
        ("--dihedral", "angle of four atoms in degrees", ("I", "J", "K", "L")),
        ("--distance", "distance of two atoms in Angstrom", ("I", "J")),
        ("--slide", "shift of a group of atoms (as 0,1,2 or 4:8) in Angstrom",
         ("GROUP", "X", "Y", "Z")),
    ):  # fmt: skip
        parser.add_argument(
            name,
            dest="coordinates",
            action=_Append,
            nargs=len(names) + 3,
            metavar=(*names, *grid),
            help=f"{what}, and its values; once or twice in all",
        )
    parser.add_argument("--relaxed", action="store_true", help="relax everything else")
    parser.add_argument(
        "--out", type=Path, default=Path("scan"), metavar="FOLDER", help="of the results (scan)"
    )
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame of STRUCTURE (0; -1 is the last)"
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Scan and print where the energy is lowest and highest."""
    from mlffjax.config.explore import RelaxSettings
    from mlffjax.config.files import override

    settings = RelaxSettings.parse(override({}, args.settings), source="command line")
    if args.settings and not args.relaxed:
        raise ValueError("got settings of a relaxation without --relaxed; add it, or drop them")

    import numpy as np

    from mlffjax.cli.potential import load_potential, read_structure
    from mlffjax.exploration import SUMMARY_FILE, write_scan
    from mlffjax.explore.scan import relaxed_scan, rigid_scan

    arguments.check_output(args.out / SUMMARY_FILE, overwrite=args.overwrite)
    frame = read_structure(args.structure, args.frame)
    given = args.coordinates or []
    if not 1 <= len(given) <= 2:
        raise ValueError(
            f"got {len(given)} coordinates; expected one or two of --dihedral, --distance, --slide"
        )
    coordinates = [_coordinate(frame, kind, words[:-3]) for kind, words in given]
    values = [_values(words[-3:]) for _, words in given]
    potential = load_potential(args.model)
    if args.relaxed:
        result = relaxed_scan(potential, frame, coordinates, values, settings)
    else:
        size = settings.batch_size
        result = rigid_scan(potential, frame, coordinates, values, batch_size=size)
    summary = write_scan(args.out, result)
    rows = [("points", str(result.energies.size)), ("force calls", str(result.force_calls))]
    for name, pick in (("lowest", np.nanargmin), ("highest", np.nanargmax)):
        at = np.unravel_index(int(pick(result.energies)), result.energies.shape)
        where = ", ".join(
            f"{label} {v[k]:g}"
            for label, v, k in zip(result.labels, result.values, at, strict=True)
        )
        rows.append((name, f"{result.energies[at]:.4f} eV at {where}"))
    rows.append(("span", f"{summary['span_eV']:.4f} eV"))
    arguments.print_rows(rows)
    if summary["not_converged"]:
        print(f"warning: {summary['not_converged']} points have not converged; raise steps")
    print(f"\nstructures, summary and figure in {args.out}")


def _coordinate(frame: "Frame | ase.Atoms", kind: str, words: list[str]) -> "Coordinate":
    from mlffjax.explore.coordinates import dihedral, distance, shift

    try:
        if kind == "slide":
            return shift(frame, _group(words[0]), [float(w) for w in words[1:]])
        indices = [int(w) for w in words]
    except ValueError as error:
        if "expected" in str(error):
            raise
        raise ValueError(
            f"got --{kind} {' '.join(words)}; expected numbers; mend it (see --help)"
        ) from None
    return dihedral(frame, indices) if kind == "dihedral" else distance(frame, indices)


def _group(text: str) -> list[int]:
    """Indices from ``0,1,2`` or ``4:8`` (the last not included)."""
    first, colon, last = text.partition(":")
    return list(range(int(first), int(last))) if colon else [int(w) for w in text.split(",")]


def _values(words: list[str]) -> list[float]:
    import numpy as np

    try:
        start, stop, points = float(words[0]), float(words[1]), int(words[2])
    except ValueError:
        points = 0
        start = stop = 0.0
    if points < 1:
        raise ValueError(
            f"got the values {' '.join(words)}; expected FROM TO POINTS, two numbers and a whole "
            "number of at least one; mend them"
        )
    return [float(x) for x in np.linspace(start, stop, points)]
