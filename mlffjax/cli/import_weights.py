"""``mlffjax import``: weights of a reference implementation as a potential."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax import leignn checkpoint.pt --config hyperparameters.yaml --out potentials/leignn
mlffjax import so3krates weights.npz --out potentials/so3krates

CONFIG.yaml holds the hyperparameters by the reference's own names. A torch checkpoint needs
torch to be read. An .npz file has the arrays as weights/NAME, and may have the hyperparameters
as JSON text under config.
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "import", "read the weights of a reference implementation", EXAMPLES
    )
    parser.add_argument("architecture", metavar="ARCHITECTURE", help="such as mace or leignn")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="torch checkpoint or .npz")
    parser.add_argument("--config", type=Path, metavar="CONFIG.yaml", help="hyperparameters")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="to write")
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=False)


def run(args: argparse.Namespace) -> None:
    """Read, save, and say what was read."""
    import json

    import numpy as np

    from mlffjax import checkpoint
    from mlffjax.config.files import read_yaml
    from mlffjax.interop import from_reference
    from mlffjax.interop.torch_layers import load_state_dict

    config = read_yaml(args.config) if args.config else {}
    if args.weights.suffix == ".npz":
        with np.load(args.weights, allow_pickle=False) as file:
            stored = json.loads(str(file["config"])) if "config" in file.files else {}
            weights = {
                name.removeprefix("weights/"): file[name]
                for name in file.files
                if name.startswith("weights/")
            }
        config = {**stored, **config}
    else:
        weights = load_state_dict(args.weights)
    potential = from_reference({**config, "model": args.architecture}, weights)
    checkpoint.save(potential, args.out, overwrite=args.overwrite)
    print(f"{args.architecture} with {potential.num_parameters:,} parameters in {args.out}")
