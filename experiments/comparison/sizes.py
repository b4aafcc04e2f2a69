"""Parameters of the configurations of published size: ``python sizes.py CONFIG.yaml ELEMENTS ...``.

Shapes only, nothing is computed. The number of elements decides how many rows embeddings have.
"""

import sys
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
    for config, elements in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        print(f"{config}: {parameters(Path(config), int(elements)):,} ({elements} elements)")
