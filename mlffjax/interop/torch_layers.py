"""Layers and files of torch, turned into parameters of flax."""

from collections.abc import Mapping
from pathlib import Path
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


def load_state_dict(path: str | Path, prefix: str = "module.") -> Mapping[str, np.ndarray]:
    """Parameters of a torch checkpoint as NumPy arrays.

    Only tensors are read, never code (``weights_only``).

    Args:
      path: a file of ``torch.save``: a state dict, or a dictionary with one under
        ``state_dict`` or ``model_state_dict``.
      prefix: removed from the names, as data parallel training leaves it.

    Raises:
      ImportError: torch is not installed.
      ValueError: there is no file, or no state dict in it.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            f"got the torch checkpoint {path} but no torch to read it; install torch (the CPU "
            "build is enough), or save the parameters as a NumPy archive where torch is"
        ) from None
    if not Path(path).is_file():
        raise ValueError(f"got no file {path}; expected a torch checkpoint; check the path")
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict"):
        content = content.get(key, content)
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(
            f"got a file {path} without a state dict; expected a mapping of tensors, bare or "
            "under 'state_dict' or 'model_state_dict'"
        )
    return {k.removeprefix(prefix): v.detach().numpy() for k, v in content.items()}
