"""``mlffjax md``: molecular dynamics with a potential."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlffjax.cli import arguments

if TYPE_CHECKING:
    from mlffjax.config.md import MDSettings
    from mlffjax.data import Frame
    from mlffjax.potential import Potential

EXAMPLES = """
mlffjax md runs/ethanol start.xyz --out runs/ethanol-300K temperature=300 steps=20000
mlffjax md runs/ethanol start.xyz --out runs/nve ensemble=nve timestep_fs=0.5
mlffjax md runs/ethanol frames.extxyz --frame -1 --out runs/last --config md.yaml
mlffjax md runs/water box.xyz --out runs/npt ensemble=npt-scr pressure_gpa=1e-4 steps=100000
mlffjax md runs/water box.xyz --out runs/melt ensemble=csvr temperature=100 temperature_end=400
mlffjax md runs/water box.xyz --out runs/npt --resume
mlffjax md runs/ethanol start.xyz --out runs/six replicas=6 temperature=500 bond_check=true
mlffjax md runs/ethanol start.xyz --out runs/six --resume steps=40000
mlffjax md runs/water box.xyz --out runs/boxes replicas=4 ensemble=npt-scr pressure_gpa=1e-4
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(commands, common, "md", "run molecular dynamics", EXAMPLES)
    arguments.add_model(parser)
    parser.add_argument("structure", metavar="STRUCTURE", help="where to start, any ASE format")
    arguments.add_settings(
        parser, "settings, such as steps=1000 temperature=300; all of them: mlffjax settings md"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("md"), metavar="FOLDER", help="of the run (md)"
    )
    parser.add_argument("--config", type=Path, metavar="MD.yaml", help="settings of the run")
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame of STRUCTURE (0; -1 is the last)"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in FOLDER, with its settings; steps=N makes it longer",
    )
    again.add_argument("--overwrite", action="store_true", help="replace what is already there")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Simulate and print the summary."""
    from mlffjax.config.files import override, read_yaml
    from mlffjax.config.md import MDSettings
    from mlffjax.simulation import SETTINGS_FILE, simulate

    record = args.out / SETTINGS_FILE
    config = record if args.resume and not args.config and record.exists() else args.config
    values = read_yaml(config) if config else {}
    settings = MDSettings.parse(
        override(values, args.settings), source=str(config or "command line")
    )

    from mlffjax.cli.potential import load_potential, read_structure
    from mlffjax.data import Frame
    from mlffjax.md.structure import frame_of

    if not args.resume:
        arguments.check_output(record, overwrite=args.overwrite)
    structure = read_structure(args.structure, args.frame)
    frame = structure if isinstance(structure, Frame) else frame_of(structure)
    potential = load_potential(args.model)
    if settings.replicas > 1:
        _replicas(args, settings, frame, potential)
        return
    simulation = simulate(
        potential,
        frame,
        settings,
        args.out,
        overwrite=args.overwrite,
        resume=args.resume,
        progress=not args.no_progress and sys.stderr.isatty(),
    )
    arguments.print_rows(simulation.rows())
    print(f"\ntrajectory, thermodynamics and figures in {args.out}")
    if simulation.result.status == "exploded":
        raise ValueError(simulation.result.message)
    _leave(simulation.exit_code)


def _replicas(
    args: argparse.Namespace, settings: "MDSettings", frame: "Frame", potential: "Potential"
) -> None:
    """Simulate copies in one program and print the summary."""
    from mlffjax.replica_simulation import simulate_replicas

    simulation = simulate_replicas(
        potential,
        frame,
        settings,
        args.out,
        overwrite=args.overwrite,
        resume=args.resume,
        progress=not args.no_progress and sys.stderr.isatty(),
    )
    arguments.print_rows(simulation.rows())
    print(f"\ntrajectories and thermodynamics in {args.out}/replica_000 and so on")
    _leave(simulation.exit_code)


def _leave(exit_code: int) -> None:
    """End the process after a signal."""
    if exit_code:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        raise SystemExit(exit_code)
