"""Weights of reference implementations, read into the package's own architectures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlffjax.interop import alphanet, equiformer_v2, leignn, mace, mace_checkpoint, so3krates
from mlffjax.interop.torch_file import load_state_dict
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
      ValueError: unknown model, settings that are missing or not read, or parameters that are
        missing, left over, of another shape or not finite.
    """
    name = str(config.get("model"))
    if name not in READERS:
        raise ValueError(f"got the model {name!r}; expected one of {', '.join(sorted(READERS))}")
    for key, values in weights.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"got numbers that are not finite in the parameter {key}; expected a trained "
                "model; take another checkpoint of it"
            )
    try:
        potential = READERS[name](config, weights, dtype=dtype)
        potential.check_parameters()
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"got settings or parameters that are none of {name} ({type(error).__name__}: {error});"
            " expected those of the published implementation; check their types and shapes"
        ) from error
    return potential


def from_checkpoint(
    model: str,
    path: str | Path,
    config: Mapping[str, Any] | None = None,
    *,
    dtype: Any = jnp.float32,
) -> Potential:
    """A potential from a file of a reference implementation.

    Torch is not needed and nothing in the file is executed (:mod:`mlffjax.interop.torch_file`).

    Args:
      model: name of the reader, as in :data:`READERS`.
      path: one of

        * a torch checkpoint with a state dict, which needs ``config``;
        * for ``mace`` without ``config`` a pickled model of mace-torch, which has the
          hyperparameters in it;
        * an ``.npz`` archive with the parameters as ``weights/NAME`` and perhaps the
          hyperparameters as a JSON text ``config``.
      config: hyperparameters by the reference's own names.
      dtype: of the parameters.

    Raises:
      ValueError: as :func:`from_reference`, or the file cannot be read.
    """
    path, stored = Path(path), {}
    if path.suffix == ".npz":
        stored, weights = _read_archive(path)
    elif model == "mace" and not config:
        stored, weights = mace_checkpoint.read_model(path)
    else:
        weights = load_state_dict(path)
    return from_reference({**stored, **(config or {}), "model": model}, weights, dtype=dtype)


def _read_archive(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Hyperparameters and parameters of an ``.npz`` archive."""
    with np.load(path, allow_pickle=False) as file:
        config = json.loads(str(file["config"])) if "config" in file.files else {}
        names = [name for name in file.files if name.startswith("weights/")]
        return config, {name.removeprefix("weights/"): file[name] for name in names}
