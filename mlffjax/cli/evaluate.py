"""``mlffjax evaluate``: errors of a potential on labelled frames."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlffjax.cli import arguments

if TYPE_CHECKING:
    from mlffjax.data import Frame

EXAMPLES = """
mlffjax evaluate runs/ethanol test.extxyz
mlffjax evaluate runs/ethanol builtin:ethanol --out errors
mlffjax evaluate runs/ethanol test.xyz keys.energy=DFT_energy keys.forces=DFT_forces
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "evaluate", "compare a potential with labelled frames", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("file", metavar="FILE", help="frames with energies and forces")
    arguments.add_settings(
        parser,
        "how to read FILE: keys.energy=..., units.energy=kcal/mol; "
        "all of them: mlffjax settings data",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write metrics.json and parity plots there"
    )
    arguments.add_batch_size(parser)
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Print the table of errors."""
    from mlffjax.cli.potential import load_potential, read_labelled
    from mlffjax.data.sets import structures_of
    from mlffjax.training.evaluate import evaluate
    from mlffjax.workflow import METRICS_FILE, metrics_table, write_evaluation

    if args.out is not None:
        arguments.check_output(args.out / METRICS_FILE, overwrite=args.overwrite)
    potential = load_potential(args.model)
    everything = read_labelled(args.file, args.settings)
    # Their energies are the baseline, which says nothing of a network trained on structures.
    frames = structures_of(everything)
    left_out = len(everything) - len(frames)
    _check_labels(frames, args.file)
    evaluation = evaluate(potential, frames, args.batch_size)
    without = f", without isolated atoms ({left_out})" if left_out else ""
    print(f"{len(frames)} frames of {args.file}{without}")
    print(metrics_table(evaluation.metrics))
    if args.out is not None:
        write_evaluation(args.out, frames, evaluation)
        print(f"\nmetrics and figures in {args.out}")


def _check_labels(frames: "Sequence[Frame]", file: str) -> None:
    """Refuse frames without any label.

    Raises:
      ValueError: there is nothing to compare with; the message has the names looked for.
    """
    from mlffjax.data.keys import LABEL_KEYS

    if any(getattr(frame, label) is not None for frame in frames for label in LABEL_KEYS):
        return
    names = "; ".join(f"{label}: {', '.join(order)}" for label, order in LABEL_KEYS.items())
    raise ValueError(
        f"got no energy, forces or stress on the {len(frames)} frames of {file}; expected labels "
        f"to compare with; set keys.energy and keys.forces to the names the file uses "
        f"(looked for {names})"
    )
