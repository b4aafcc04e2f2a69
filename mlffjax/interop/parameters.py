"""Bookkeeping of a reference's settings and parameters: each is used, or named as unused."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mlffjax.models import Architecture
from mlffjax.potential import Potential


def check_settings(
    config: Mapping[str, Any],
    taken: Collection[str],
    fixed: Mapping[str, Any] | None = None,
    harmless: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Check that all settings are there and none of them changes energies without being read.

    Args:
      config: the reference's own hyperparameters; ``model`` in it names the reader.
      taken: names of the settings that are read, all of which must be given.
      fixed: settings with the only value that is read.
      harmless: names of settings that change no energy of a trained model.
      optional: names of settings that are read where they are given.

    Raises:
      ValueError: a setting that is none of these, one that is missing, or a fixed one with
        another value.
    """
    fixed = {} if fixed is None else fixed
    known = {"model", *taken, *fixed, *harmless, *optional}
    unknown = sorted(key for key in config if key not in known)
    if unknown:
        raise ValueError(
            f"got the settings {', '.join(unknown)}, which are not read; expected some of "
            f"{', '.join(sorted(known))}; take out those that do not change the energies"
        )
    missing = [key for key in taken if key not in config]
    if missing:
        raise ValueError(
            f"got no {', '.join(missing)} among the settings; expected all of {', '.join(taken)}; "
            "add what the model was trained with"
        )
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise ValueError(f"got {key} = {config[key]!r}; expected {value!r}, the only one read")


class ReferenceParameters:
    """Parameters by reference name, taken one by one.

    Args:
      weights: parameters by the reference's own names.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._left = dict(weights)

    def take(self, name: str) -> Float[np.ndarray, "..."]:
        """Remove and return the parameter ``name`` in float64.

        Raises:
          ValueError: it is not there.
        """
        try:
            return np.asarray(self._left.pop(name), np.float64)
        except KeyError:
            near = ", ".join(sorted(self._left)[:5])
            raise ValueError(
                f"got no parameter {name!r}; expected it among the weights (left: {near}, ...); "
                "check that configuration and weights belong together"
            ) from None

    def names(self) -> list[str]:
        """Names of the parameters not taken yet."""
        return sorted(self._left)

    def finish(self, unused: Iterable[str] = ()) -> None:
        """Check that only parameters with an ending in ``unused`` are left.

        Raises:
          ValueError: parameters that nothing has read.
        """
        left = [n for n in self.names() if not n.endswith(tuple(unused))]
        if left:
            raise ValueError(
                f"got {len(left)} parameters that the model does not have: "
                f"{', '.join(left[:5])}; expected none; check that configuration and weights "
                "belong together"
            )


def reference_potential(
    params: Mapping[str, Any], module: Architecture, elements: Sequence[int], dtype: Any
) -> Potential:
    """The potential of parameters in float64, without a baseline.

    Args:
      params: nested mapping in the layout of ``module``.
      module: the architecture.
      elements: atomic numbers the species index runs over.
      dtype: of the parameters.
    """
    return Potential(
        params={"params": jax.tree.map(lambda x: jnp.asarray(x, dtype), params)},
        module=module,
        elements=tuple(elements),
        baseline=(0.0,) * len(elements),
    )
