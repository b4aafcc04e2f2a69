"""Layers of torch, turned into parameters of flax."""

from typing import Any

import numpy as np

from mlffjax.interop.parameters import ReferenceParameters


def linear(source: ReferenceParameters, path: str) -> dict[str, np.ndarray]:
    """A linear layer: torch stores ``[out, in]``, flax ``[in, out]``; the bias if it has one."""
    params = {"kernel": source.take(path + "weight").T}
    if path + "bias" in source.names():
        params["bias"] = source.take(path + "bias")
    return params


def mlp(source: ReferenceParameters, path: str, layers: tuple[int, ...] = (0, 2)) -> dict[str, Any]:
    """Parameters of :class:`mlffjax.nn.mlp.MLP` from a ``Sequential``.

    Args:
      source: where to take them from.
      path: name of the ``Sequential`` with its dot.
      layers: positions of the linear layers in it; activations take the others.
    """
    return {f"layer_{k}": linear(source, f"{path}{n}.") for k, n in enumerate(layers)}
