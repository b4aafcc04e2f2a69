"""Parameters of the configurations of published size: ``python sizes.py CONFIG.yaml ELEMENTS ...``.

Shapes only, nothing is computed. The number of elements decides how many rows embeddings have.
"""

import argparse
from pathlib import Path

import jax

from mlffjax.config.files import read_yaml
from mlffjax.config.run import ModelSettings
from mlffjax.potential import Potential
from mlffjax.workflow import architecture


def parameters(config: Path, num_elements: int) -> int:
    """Number of parameters of the model in a configuration."""
    module = architecture(ModelSettings(**read_yaml(config)["model"]))
    elements = range(1, num_elements + 1)
    shapes = jax.eval_shape(lambda: Potential.init(module, elements, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes.params))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="+", metavar="CONFIG ELEMENTS", help="in turn")
    words = parser.parse_args().pairs
    if len(words) % 2:
        parser.error(f"got {len(words)} words; expected a number of elements after each file")
    for config, elements in zip(words[::2], words[1::2], strict=True):
        print(f"{config}: {parameters(Path(config), int(elements)):,} ({elements} elements)")
