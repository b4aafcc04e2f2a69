"""Parameters of the published LEIGNN implementation."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlffjax.interop.parameters import (
    ReferenceParameters,
    check_settings,
    reference_potential,
)
from mlffjax.interop.torch_layers import linear, mlp
from mlffjax.models.leignn import LEIGNN
from mlffjax.potential import Potential

#: Settings that are read, and those that change nothing: the embedding has its own size.
SETTINGS = ("hidden_channels", "num_layers", "num_rbf", "cutoff")
HARMLESS = ("num_elements", "units")


def read(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """A LEIGNN potential from the published implementation's parameters.

    The potential has the published behaviour: direct forces, no envelope on the filters. The
    same parameters serve ``potential.replace(module=potential.module.clone(force_head=False))``,
    whose forces are the energy gradient.

    Args:
      config: ``hidden_channels``, ``num_layers``, ``num_rbf``, ``cutoff``.
      weights: parameters by name in torch's layout; row ``k`` of the embedding is the element
        of atomic number ``k``.
      dtype: of the parameters.

    Raises:
      ValueError: settings that are not read, or parameters missing or left over.
    """
    check_settings(config, SETTINGS, harmless=HARMLESS)
    source = ReferenceParameters(weights)
    embedding = source.take("atom_emb.embeddings.weight")
    params: dict[str, Any] = {
        "embedding": embedding[1:],  # row 0 is no element
        "global_embedding": source.take("vn_emb.weight")[0],
        "readout": mlp(source, "out_energy."),
        "force_readout": linear(source, "out_forces."),
    }
    count = config["num_layers"]
    for t in range(count):
        params |= _layer(source, t, first=t == 0, last=t + 1 == count)
    source.finish(unused=_functionless(count))
    elements = tuple(range(1, len(embedding)))
    module = LEIGNN(
        num_elements=len(elements),
        cutoff=float(config["cutoff"]),
        num_features=config["hidden_channels"],
        num_layers=count,
        num_radial=config["num_rbf"],
        force_head=True,
        smooth_cutoff=False,
        norm_rounding=1e-4,
    )
    return reference_potential(params, module, elements, dtype)


def _functionless(num_layers: int) -> tuple[str, ...]:
    """Parameters that have no part in the result: they act on vectors that are zero, write the
    global node after its last use, or are constants."""
    last = num_layers - 1
    ends = [f"mlp_vn.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")]
    return (
        "radial_basis.rbf.offset",
        "global_vector_layers.0.mlp_node.weight",
        f"global_vector_layers.{last}.mlp_vn.weight",
        *(f"global_scalar_layers.{last}.{end}" for end in ends),
    )


def _layer(source: ReferenceParameters, t: int, *, first: bool, last: bool) -> dict[str, Any]:
    message = {
        "sources": mlp(source, f"message_layers.{t}.x_proj."),
        "filters": linear(source, f"message_layers.{t}.rbf_proj."),
    }
    distribute = {"scalars": mlp(source, f"global_scalar_layers.{t}.mlp_node.")}
    if not first:
        distribute["vectors"] = linear(source, f"global_vector_layers.{t}.mlp_node.")
    params: dict[str, Any] = {
        f"distribute_{t}": distribute,
        f"message_{t}": {
            "sources": message["sources"]
            | {"layer_1": _reordered(message["sources"]["layer_1"], first)},
            "filters": _reordered(message["filters"], first),
        },
        f"update_{t}": {
            "vectors": linear(source, f"update_layers.{t}.vec_proj."),
            "scalars": mlp(source, f"update_layers.{t}.xvec_proj."),
        },
    }
    if not last:
        params[f"aggregate_{t}"] = {
            "scalars": mlp(source, f"global_scalar_layers.{t}.mlp_vn."),
            "vectors": linear(source, f"global_vector_layers.{t}.mlp_vn."),
        }
    return params


def _reordered(layer: Mapping[str, np.ndarray], first: bool) -> dict[str, np.ndarray]:
    """(gate, force, scalar message) to (force, scalar message, gate); no gate in the first."""

    def reorder(array: np.ndarray) -> np.ndarray:
        gate, force, message = np.split(array, 3, axis=-1)
        return np.concatenate([force, message] if first else [force, message, gate], axis=-1)

    return {name: reorder(array) for name, array in layer.items()}
