"""``mlffjax vibrations``: harmonic frequencies of a structure, phonons of a crystal."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax vibrations runs/ethanol minimum.xyz --out runs/vibrations
mlffjax vibrations runs/ethanol minimum.xyz --float64
mlffjax vibrations runs/cu slab.extxyz --fixed 0 1 2 3
mlffjax vibrations runs/silicon primitive.cif --supercell 3 3 3 --path GXWKGL
"""


#: Forces in eV/Angstrom above which a structure is no minimum: ASE's usual threshold.
LARGE_FORCE = 0.05


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "vibrations", "harmonic frequencies and phonons", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("structure", metavar="STRUCTURE", help="a minimum, any ASE format")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("vibrations"),
        metavar="FOLDER",
        help="of the results (vibrations)",
    )
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame of STRUCTURE (0; -1 is the last)"
    )
    parser.add_argument(
        "--fixed", type=int, nargs="+", default=[], metavar="I", help="atoms that do not move"
    )
    parser.add_argument("--float64", action="store_true", help="compute in double precision")
    parser.add_argument(
        "--supercell",
        type=arguments.positive,
        nargs=3,
        metavar=("A", "B", "C"),
        help="phonon bands from the force constants of so many cells",
    )
    parser.add_argument(
        "--path", metavar="POINTS", help="special points of the bands, as GXWKGL (ASE's path)"
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Compute and print the frequencies."""
    from mlffjax.cli.potential import load_potential, read_structure
    from mlffjax.cli.process import use_x64
    from mlffjax.exploration import SUMMARY_FILE, vibration_rows, write_bands, write_vibrations
    from mlffjax.explore.phonons import force_constants
    from mlffjax.explore.vibrations import vibrations

    arguments.check_output(args.out / SUMMARY_FILE, overwrite=args.overwrite)
    if args.path and not args.supercell:
        raise ValueError("got --path without --supercell; expected both; add --supercell A B C")
    if args.fixed and args.supercell:
        raise ValueError("got --fixed with --supercell; expected one, in phonons all atoms move")
    frame = read_structure(args.structure, args.frame)
    potential = load_potential(args.model)
    if args.float64:
        use_x64("float64")
        potential = potential.astype("float64")
    constants = force_constants(potential, frame, args.supercell) if args.supercell else None
    result = vibrations(potential, frame, fixed=args.fixed)
    write_vibrations(args.out, result)
    if result.max_force > LARGE_FORCE:
        print(
            f"warning: a force of {result.max_force:.3f} eV/Angstrom: frequencies mean something "
            "only where forces vanish; relax the structure first"
        )
    arguments.print_rows(vibration_rows(result))
    if constants is not None:
        bands = write_bands(args.out, constants, special=args.path)
        print(f"bands from {bands.min():.1f} to {bands.max():.1f} cm^-1")
    print(f"\nfrequencies, modes and figures in {args.out}")
