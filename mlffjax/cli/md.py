"""``mlffjax md``: molecular dynamics with a potential."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax md runs/ethanol start.xyz --out runs/ethanol-300K temperature=300 steps=20000
mlffjax md runs/ethanol start.xyz --out runs/nve ensemble=nve timestep_fs=0.5
mlffjax md runs/ethanol frames.extxyz --frame -1 --out runs/last --config md.yaml
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(commands, common, "md", "run molecular dynamics", EXAMPLES)
    arguments.add_model(parser)
    parser.add_argument("structure", metavar="STRUCTURE", help="where to start, any ASE format")
    arguments.add_settings(parser, "settings of the run, such as steps=1000 temperature=300")
    parser.add_argument(
        "--out", type=Path, default=Path("md"), metavar="FOLDER", help="of the run (md)"
    )
    parser.add_argument("--config", type=Path, metavar="MD.yaml", help="settings of the run")
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame of STRUCTURE (0; -1 is the last)"
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Simulate and print the summary."""
    from mlffjax.config.files import override, read_yaml
    from mlffjax.config.md import MDSettings

    values = read_yaml(args.config) if args.config else {}
    settings = MDSettings.parse(
        override(values, args.settings), source=str(args.config or "command line")
    )

    from mlffjax.cli.potential import load_potential, read_structure
    from mlffjax.simulation import SETTINGS_FILE, simulate

    arguments.refuse_existing(args.out / SETTINGS_FILE, overwrite=args.overwrite)
    frame = read_structure(args.structure, args.frame)
    potential = load_potential(args.model)
    simulation = simulate(potential, frame, settings, args.out, overwrite=args.overwrite)
    arguments.print_rows(simulation.rows())
    print(f"\ntrajectory, thermodynamics and figures in {args.out}")
    if simulation.result.status != "finished":
        raise ValueError(simulation.result.message)
