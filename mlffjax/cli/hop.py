"""``mlffjax hop``: the minima of a molecule or cluster by minima hopping."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlffjax.cli import arguments

if TYPE_CHECKING:
    from mlffjax.config.explore import HoppingSettings

SETTINGS_FILE = "settings.yaml"

EXAMPLES = """
mlffjax hop runs/ethanol start.xyz --out runs/conformers walkers=8 steps=500
mlffjax hop runs/ethanol start.xyz --out runs/conformers permutations=true keep_bonds=true
mlffjax hop runs/ethanol start.xyz --out runs/conformers --resume steps=2000
mlffjax hop runs/ethanol start.xyz --dihedral 0 1 2 3 --dihedral 2 1 0 6 --training builtin:ethanol
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(commands, common, "hop", "search minima by minima hopping", EXAMPLES)
    arguments.add_model(parser)
    parser.add_argument("structure", metavar="START", help="where to start, any ASE format")
    arguments.add_settings(
        parser,
        "settings, such as walkers=8 steps=500 temperature=1000; all of them: mlffjax settings hop",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("hop"), metavar="FOLDER", help="of the search (hop)"
    )
    parser.add_argument("--config", type=Path, metavar="HOP.yaml", help="settings of the search")
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame of START (0; -1 is the last)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the search in FOLDER, exactly"
    )
    parser.add_argument(
        "--dihedral",
        type=int,
        nargs=4,
        action="append",
        metavar=("I", "J", "K", "L"),
        help="atoms of an angle; given twice, the two are mapped over the minima",
    )
    parser.add_argument("--training", metavar="FILE", help="frames to map beside the minima")
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Search, draw, and print what was found."""
    settings = _settings(args)
    if len(args.dihedral or (0, 0)) != 2:
        raise ValueError("got one --dihedral, or more than two; expected two; mend it")

    import numpy as np
    from tqdm import tqdm

    from mlffjax.cli.potential import load_potential, read_labelled, read_structure
    from mlffjax.config.files import write_yaml
    from mlffjax.exploration import report_hopping
    from mlffjax.explore.hop_store import HISTORY_FILE
    from mlffjax.explore.minima_hopping import hop
    from mlffjax.interruption import interruptible

    if not args.resume:
        arguments.check_output(args.out / HISTORY_FILE, overwrite=False)
    start = read_structure(args.structure, args.frame)
    training = read_labelled(args.training, ()) if args.training else ()
    potential = load_potential(args.model)
    if not args.resume:
        write_yaml(args.out / SETTINGS_FILE, settings)
    bar = tqdm(total=settings.steps, unit="escape", disable=None)
    with interruptible() as asked, bar:

        def progress(escapes, minima: int) -> None:
            bar.update(escapes[-1].step + 1 - bar.n)
            mean = np.mean([escape.temperature for escape in escapes])
            bar.set_postfix(minima=minima, T0=f"{mean:.0f} K")

        result = hop(
            potential,
            start,
            settings,
            folder=args.out,
            resume=args.resume,
            progress=progress,
            stop=asked,
        )
    energies = np.sort([minimum.energy for minimum in result.minima])
    rejected = sum(escape.target is None for escape in result.escapes)
    rows = [
        ("minima", str(len(energies))),
        ("escapes", f"{len(result.escapes)}, {rejected} of them rejected"),
        ("force calls", str(result.force_calls)),
        ("lowest", f"{energies[0]:.6f} eV"),
    ]
    if len(energies) > 1:
        gaps = ", ".join(f"{e:.4f}" for e in (energies - energies[0])[1:6])
        rows.append(("next above it", f"{gaps}{', ...' if len(energies) > 6 else ''} eV"))
    arguments.print_rows(rows)
    write_yaml(args.out / SETTINGS_FILE, settings)
    report_hopping(args.out, dihedrals=args.dihedral, training=training)
    print(f"\nminima, history and figures in {args.out}")
    if result.interrupted:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        raise SystemExit(asked.exit_code)


def _settings(args: argparse.Namespace) -> "HoppingSettings":
    """Those of the command; of a search that continues, its own with what the command changes."""
    from mlffjax.config.explore import HoppingSettings
    from mlffjax.config.files import override, read_yaml

    if args.resume and args.config:
        raise ValueError("got --config with --resume; expected one, a search has its settings")
    source = args.out / SETTINGS_FILE if args.resume else args.config
    values = read_yaml(source) if source else {}
    return HoppingSettings.parse(
        override(values, args.settings), source=str(source or "command line")
    )
