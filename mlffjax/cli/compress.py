"""``mlffjax compress``: a faster potential for dynamics, and what it costs in accuracy."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax compress runs/ethanol test.extxyz potentials/fast
mlffjax compress runs/ethanol builtin:ethanol potentials/faster --tolerance 1e-3
mlffjax md potentials/fast start.xyz

For SO3krates and SchNet. Networks of the distance alone, in which they spend most of their time,
become splines. Dynamics does this by itself (compress in mlffjax settings md); the command is for
the calculator, for programs of your own, and for larger tolerances. The table shows by how much
energies and forces of FRAMES change, which need no labels; compare it with the errors of the
potential (mlffjax evaluate). What is written is a potential like any other, but not for training.
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "compress", "make a trained potential faster", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("file", metavar="FRAMES", help="structures like those of the dynamics")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the potential, to write")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-5,
        metavar="X",
        help="largest error of the filters, relative (1e-5)",
    )
    arguments.add_batch_size(parser)
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Compress, compare, save."""
    import numpy as np

    from mlffjax import checkpoint
    from mlffjax.cli.potential import load_potential, read_labelled
    from mlffjax.training.evaluate import evaluate

    arguments.check_output(args.out, overwrite=args.overwrite)
    potential = load_potential(args.model)
    frames = read_labelled(args.file, ())
    compressed = potential.compressed(args.tolerance)
    exact, near = (evaluate(p, frames, args.batch_size) for p in (potential, compressed))
    sizes = np.array([len(frame.numbers) for frame in frames])
    energy = np.abs(near.energy - exact.energy) / sizes
    forces = [np.abs(a - b).max() for a, b in zip(near.forces, exact.forces, strict=True)]
    largest = max(np.abs(f).max() for f in exact.forces)
    checkpoint.save(compressed, args.out, overwrite=args.overwrite)
    arguments.print_rows(
        [
            ("frames", str(len(frames))),
            ("largest change of an energy", f"{1e3 * energy.max():.2g} meV/atom"),
            ("largest change of a force", f"{1e3 * max(forces):.2g} meV/Å"),
            ("largest force", f"{1e3 * largest:.0f} meV/Å"),
            ("potential", str(args.out)),
        ]
    )
