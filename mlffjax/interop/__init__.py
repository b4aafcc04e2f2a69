"""Weights of reference implementations, read into the package's own architectures."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlffjax.interop import alphanet, equiformer_v2, leignn, mace, so3krates
from mlffjax.potential import Potential

#: Readers by the name in ``config["model"]``.
READERS: Mapping[str, Callable[..., Potential]] = {
    "alphanet": alphanet.read,
    "equiformer_v2": equiformer_v2.read,
    "leignn": leignn.read,
    "mace": mace.read,
    "so3krates": so3krates.read,
}


def from_reference(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """A potential from a reference implementation's hyperparameters and parameters.

    The potential has the published model's behaviour, not this package's defaults.

    Args:
      config: the reference's own hyperparameters; ``config["model"]`` names the reader.
      weights: parameters by the reference's own names.
      dtype: of the parameters.

    Raises:
      ValueError: unknown model, or parameters that are missing or left over.
    """
    name = str(config.get("model"))
    if name not in READERS:
        raise ValueError(f"got the model {name!r}; expected one of {', '.join(sorted(READERS))}")
    return READERS[name](config, weights, dtype=dtype)
