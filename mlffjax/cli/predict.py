"""``mlffjax predict``: energies and forces of structures."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax predict runs/ethanol structures.xyz --out predicted.extxyz
mlffjax predict runs/silicon POSCAR --out predicted.extxyz
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "predict", "write energies and forces of structures", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("file", metavar="FILE", help="structures in any format of ASE")
    arguments.add_settings(parser, "how to read FILE: units.length=Bohr")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT.extxyz",
        help="extended XYZ with energies (eV), forces (eV/Angstrom), stresses (eV/Angstrom^3)",
    )
    arguments.add_batch_size(parser)
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Write the predictions."""
    from mlffjax.cli.potential import load_potential, read_labelled
    from mlffjax.data import write_extxyz
    from mlffjax.prediction import predict_frames

    arguments.check_output(args.out, overwrite=args.overwrite)
    potential = load_potential(args.model)
    frames = read_labelled(args.file, args.settings)
    predicted = predict_frames(potential, frames, batch_size=args.batch_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_extxyz(predicted, args.out, overwrite=args.overwrite)
    print(f"{len(predicted)} structures with energies and forces in {args.out}")
