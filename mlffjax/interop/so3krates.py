"""Parameters of the published SO3krates implementation (mlff)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlffjax.interop.parameters import (
    ReferenceParameters,
    check_settings,
    reference_potential,
)
from mlffjax.models.so3krates import SO3krates
from mlffjax.potential import Potential

#: Settings that are read.
SETTINGS = ("F", "n_layer", "degrees", "n_heads", "n_rbf", "r_cut", "sphc_normalization")
#: Settings whose other values lead to functions that this package does not have.
FIXED = {"radial_basis_function": "phys", "radial_cutoff_fn": "cosine_cutoff_fn"}


def read(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """A SO3krates potential from mlff's hyperparameters and parameters.

    Args:
      config: ``F``, ``n_layer``, ``degrees``, ``n_heads``, ``n_rbf``, ``r_cut``,
        ``sphc_normalization`` (``None`` where the Euclidean variables start at zero).
      weights: flax parameters by path, ``params/layers_0/...``. Dense kernels are
        ``[in, out]``; those of attention are stacked over the heads.
      dtype: of the parameters.

    Raises:
      ValueError: settings that are not read, or parameters missing or left over.
    """
    check_settings(config, SETTINGS, FIXED)
    source = ReferenceParameters(weights)
    embedding = source.take("params/feature_embeddings_0/Embed_0/embedding")
    params = {"embedding": {"embedding": embedding[1:]}}  # row 0 is no element
    for t in range(config["n_layer"]):
        params[f"block_{t}"] = _block(source, f"params/layers_{t}/")
    params["readout_hidden"] = _dense(source, "params/observables_0/MLP_0/layers_0/")
    params["readout"] = _dense(source, "params/observables_0/MLP_0/layers_1/")
    source.finish()
    normalization = config.get("sphc_normalization")
    elements = tuple(range(1, len(embedding)))
    module = SO3krates(
        num_elements=len(elements),
        cutoff=float(config["r_cut"]),
        avg_num_neighbors=float(normalization or 1.0),
        num_features=config["F"],
        num_layers=config["n_layer"],
        num_heads=config["n_heads"],
        degrees=tuple(config["degrees"]),
        num_radial=config["n_rbf"],
        ev_initialization="zero" if normalization is None else "neighborhood",
    )
    return reference_potential(params, module, elements, dtype)


def _block(source: ReferenceParameters, path: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "interaction": _dense(source, path + "InteractionBlock_0/MLP_0/layers_0/")
    }
    for ours, theirs in (("feature", "FeatureBlock_0/"), ("ev", "GeometricBlock_0/")):
        filters = path + theirs + "filter_fn/"
        result[f"{ours}_filter"] = {
            "radial_hidden": _filter(source, filters + "VmapMLP_0/layers_0/"),
            "radial": _filter(source, filters + "VmapMLP_0/layers_1/"),
            "invariant_hidden": _filter(source, filters + "VmapMLP_1/layers_0/"),
            "invariant": _filter(source, filters + "VmapMLP_1/layers_1/"),
        }
        attention = path + theirs + "attention_fn/VmapConvAttentionCoefficients_0/"
        result[f"{ours}_query"] = {"kernel": source.take(attention + "Dense_0/kernel")}
        result[f"{ours}_key"] = {"kernel": source.take(attention + "Dense_1/kernel")}
    value = path + "FeatureBlock_0/attention_fn/VmapAttentionAggregation_0/Dense_0/kernel"
    result["feature_value"] = {"kernel": source.take(value)}
    return result


def _dense(source: ReferenceParameters, path: str) -> dict[str, np.ndarray]:
    return {"kernel": source.take(path + "kernel"), "bias": source.take(path + "bias")}


def _filter(source: ReferenceParameters, path: str) -> dict[str, np.ndarray]:
    """Filter networks are stacked over one shared head."""
    return {name: value[0] for name, value in _dense(source, path).items()}
