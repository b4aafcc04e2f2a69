"""``mlffjax neb``: the minimum energy path between two structures."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax neb runs/ethanol trans.xyz gauche.xyz --out runs/rotor images=7
mlffjax neb runs/ethanol trans.xyz gauche.xyz --out runs/rotor interpolation=linear method=fire
mlffjax neb runs/silicon hop.extxyz hop.extxyz --frames 0 -1 --out runs/hop fixed_atoms=[0,1]
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "neb", "find the path and barrier between two minima", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("start", metavar="START", help="a minimum, any ASE format")
    parser.add_argument("end", metavar="END", help="another, the same atoms in the same order")
    arguments.add_settings(
        parser,
        "settings, such as images=7 climb=false fmax=0.05; all of them: mlffjax settings neb",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("neb"), metavar="FOLDER", help="of the results (neb)"
    )
    parser.add_argument(
        "--frames",
        type=int,
        nargs=2,
        default=(0, 0),
        metavar=("N", "M"),
        help="frames of START and END (0 0; -1 is the last)",
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Find the path and print its barrier."""
    from mlffjax.config.files import override
    from mlffjax.config.paths import NEBSettings

    settings = NEBSettings.parse(override({}, args.settings), source="command line")

    from mlffjax.cli.potential import load_potential, read_structure
    from mlffjax.exploration import SUMMARY_FILE, write_neb
    from mlffjax.explore.neb import nudged_elastic_band

    arguments.check_output(args.out / SUMMARY_FILE, overwrite=args.overwrite)
    start = read_structure(args.start, args.frames[0])
    end = read_structure(args.end, args.frames[1])
    result = nudged_elastic_band(load_potential(args.model), start, end, settings)
    write_neb(args.out, result, settings)
    for line in result.warnings:
        print(f"warning: {line}")
    arguments.print_rows(
        [
            ("ended", f"{result.status} after {result.steps} steps"),
            ("barrier", f"{result.barrier:.4f} eV"),
            ("reverse barrier", f"{result.reverse_barrier:.4f} eV"),
            ("highest image", f"{result.saddle} of 0 to {len(result.frames) - 1}"),
            ("force of the band", f"{result.residual:.4f} eV/Angstrom"),
            ("force calls", str(result.force_calls)),
        ]
    )
    print(f"\nimages, summary and figure in {args.out}")
    if result.status != "converged":
        raise ValueError(
            f"got a path that is {result.status} with a force of {result.residual:.3f}; expected "
            f"less than {settings.fmax:g}; raise steps, or look at the ends"
        )
