"""``mlffjax import``: weights of a reference implementation as a potential."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments
from mlffjax.cli.process import use_x64

EXAMPLES = """
mlffjax import mace MACE.model potentials/mace
mlffjax import leignn checkpoint.pt potentials/leignn --config hyperparameters.yaml
mlffjax import so3krates weights.npz potentials/so3krates

WEIGHTS is a torch checkpoint with a state dict; for mace also the pickled model that mace-torch
writes (classes MACE and ScaleShiftMACE), which has its hyperparameters in it; or an .npz file with
the arrays as weights/NAME, perhaps with the hyperparameters as JSON text under config.
CONFIG.yaml holds the hyperparameters by the reference's own names.

A torch checkpoint is a program that can do anything to your files where torch runs it. Here it
is not run, and neither torch nor mace-torch is needed: arrays are read as numbers, objects of
torch, e3nn and mace as plain data. A file that names any other class is refused, and so is a
model with a layer or setting that this package does not have.
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "import", "read the weights of a reference implementation", EXAMPLES
    )
    parser.add_argument("architecture", metavar="ARCHITECTURE", help="such as mace or leignn")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="torch checkpoint or .npz")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the potential, to write")
    parser.add_argument("--config", type=Path, metavar="CONFIG.yaml", help="hyperparameters")
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="of the parameters"
    )
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=False)


def run(args: argparse.Namespace) -> None:
    """Read, save, and say what was read."""
    arguments.check_output(args.out, overwrite=args.overwrite)
    use_x64(args.dtype)
    from mlffjax import checkpoint
    from mlffjax.config.files import read_yaml
    from mlffjax.interop import from_checkpoint

    config = read_yaml(args.config) if args.config else None
    potential = from_checkpoint(args.architecture, args.weights, config, dtype=args.dtype)
    checkpoint.save(potential, args.out, overwrite=args.overwrite)
    print(f"{args.architecture} with {potential.num_parameters:,} parameters in {args.out}")
