"""``mlffjax data``: looking at reference data."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax data report builtin:ethanol
mlffjax data report train.xyz keys.energy=REF_energy --out report
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(commands, common, "data", "look at reference data", EXAMPLES)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    report = arguments.command(
        inner, common, "report", "summarise a file of frames: elements, sizes, labels", EXAMPLES
    )
    report.add_argument("file", metavar="FILE", help="frames in any format that is read")
    arguments.add_settings(
        report,
        "how to read FILE: keys.energy=..., units.energy=kcal/mol; "
        "all of them: mlffjax settings data",
    )
    report.add_argument("--out", type=Path, metavar="FOLDER", help="write text and figure there")
    arguments.add_overwrite(report)
    report.set_defaults(run=run, computes=False)


def run(args: argparse.Namespace) -> None:
    """Print the report."""
    from mlffjax.cli.potential import read_labelled
    from mlffjax.config.files import write_text
    from mlffjax.data.report import make_report
    from mlffjax.plots.data_report import data_report

    if args.out is not None:
        arguments.check_output(args.out / "report.txt", overwrite=args.overwrite)
    report = make_report(read_labelled(args.file, args.settings), source=args.file)
    print(report.text())
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "report.txt", report.text() + "\n")
    if report.energies.size or report.forces.size or report.stresses.size:
        data_report(args.out / "report.png", report.energies, report.forces, report.stresses)
    print(f"\nreport in {args.out}")
