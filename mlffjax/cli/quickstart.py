"""``mlffjax quickstart``: from nothing to a trained potential and dynamics, in minutes."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax quickstart
mlffjax quickstart --out ethanol --minutes 6
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands,
        common,
        "quickstart",
        "train on built-in ethanol, check it, run dynamics, write a report",
        EXAMPLES,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart"), metavar="FOLDER", help="(quickstart)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=3.2,
        metavar="M",
        help="about how long to train and simulate on two CPU cores (3.2)",
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Run everything and print the table."""
    from mlffjax.quickstart import quickstart

    rows = quickstart(args.out, minutes=args.minutes, overwrite=args.overwrite, say=print)
    print()
    for row in rows:
        print(f"{row.quantity:<34}{row.value:>12}  {row.unit:<14}{row.remark}")
    print(f"\nreport in {args.out / 'report.html'}")
