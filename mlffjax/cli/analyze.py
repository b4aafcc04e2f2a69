"""``mlffjax analyze``: observables of a trajectory, or of several together."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax analyze runs/ethanol-300K
mlffjax analyze md/trajectory.h5 --out analysis start=200 what=[rdf,msd]
mlffjax analyze md --reference dft.extxyz --out analysis start=200
mlffjax analyze md/trajectory.traj --out angles what=[dihedrals] dihedrals=[[0,1,2,3]]
mlffjax analyze replicas start=200
mlffjax analyze first --pool second --pool third --out together
mlffjax analyze md --out spectrum what=[spectrum] max_lag_fs=2000
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "analyze", "make observables of a trajectory", EXAMPLES
    )
    parser.add_argument(
        "trajectory",
        metavar="TRAJECTORY",
        help="folder of a simulation or of a run of replicas, .extxyz, .traj or .h5 (H5MD), or a "
        "data set",
    )
    arguments.add_settings(
        parser,
        "what to make, such as what=[rdf,msd] start=200; all of them: mlffjax settings analyze",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("analysis"),
        metavar="FOLDER",
        help="for CSV files and figures (analysis)",
    )
    parser.add_argument(
        "--pool",
        action="append",
        default=[],
        metavar="OTHER",
        help="a further trajectory of the same system, for one result of all; may be repeated",
    )
    parser.add_argument(
        "--reference",
        metavar="OTHER",
        help="draw all frames of this one too, and give the MAE between the two",
    )
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings, as a file")
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Analyse and print the numbers."""
    from mlffjax.config.analysis import AnalysisSettings
    from mlffjax.config.files import override, read_yaml

    values = read_yaml(args.config) if args.config else {}
    settings = AnalysisSettings.parse(
        override(values, args.settings), source=str(args.config or "command line")
    )

    from mlffjax.cli.process import use_x64

    # Displacements are small differences of positions; their sums need double precision.
    use_x64("float64")

    from mlffjax.analyze import SUMMARY_FILE, analyze_files

    arguments.check_output(args.out / SUMMARY_FILE, overwrite=args.overwrite)
    comparison = analyze_files([args.trajectory, *args.pool], args.out, settings, args.reference)
    rows = comparison.rows()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for note in comparison.notes():
        print(f"note: {note}")
    print(f"\nCSV files and figures in {args.out}")
