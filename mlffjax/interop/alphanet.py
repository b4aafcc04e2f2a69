"""Parameters of the published AlphaNet implementation."""

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
from mlffjax.models.alphanet import AlphaNet
from mlffjax.potential import Potential

#: Parameters that the published model has but never uses.
UNUSED = ("unitary", "fc_dx.weight", "fc_dx.bias")
#: Fields of the architecture by the settings that are read, beside the cutoff.
FIELDS = {
    "hidden_channels": "num_features",
    "num_layers": "num_layers",
    "num_radial": "num_radial",
    "head": "num_heads",
    "main_chi1": "state_size",
    "mp_chi1": "phase_size",
    "hidden_channels_chi": "contraction_size",
    "chi2": "kernel_size",
}


def read(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """An AlphaNet potential from the published implementation's parameters.

    The potential has the published formulas, which are discontinuous in places; with
    ``potential.replace(module=potential.module.clone(published=False))`` the same parameters
    serve the smooth ones, whose energies differ, as the start of a training.

    Parameters named in :data:`UNUSED` are read and dropped.

    Args:
      config: ``hidden_channels``, ``num_layers``, ``num_radial``, ``cutoff``, ``head``,
        ``main_chi1``, ``mp_chi1``, ``chi2``, ``hidden_channels_chi``.
      weights: parameters by name in torch's layout; row ``k`` of the embeddings and entry ``k``
        of ``a`` and ``b`` are the element of atomic number ``k``.
      dtype: of the parameters.

    Raises:
      ValueError: settings that are not read, or parameters missing or left over.
    """
    check_settings(config, ("cutoff", *FIELDS))
    source = ReferenceParameters(weights)
    embedding = source.take("z_emb.weight")
    elements = tuple(range(1, len(embedding)))  # row 0 is no element
    rows = slice(1, len(embedding))
    params: dict[str, Any] = {
        "frequencies": source.take("radial_emb.bessel_weights"),
        "embedding": embedding[rows],
        "neighbor_embedding": source.take("neighbor_emb.embedding.weight")[rows],
        "filters": mlp(source, "radial_lin."),
        "frame_weights": {
            "values": linear(source, "S_vector.lin1.0."),
            "frame_scalars": {"mix": mlp(source, "lin.")},
        },
        "state": {"kernel": source.take("kernel1")},
        "readout": linear(source, "last_layer."),
        "state_readout": linear(source, "last_layer_quantum."),
        "element_scale": source.take("a")[rows],
        "element_shift": source.take("b")[rows],
    }
    real, imag = source.take("kernels_real"), source.take("kernels_imag")
    for t in range(config["num_layers"]):
        params[f"message_{t}"] = _message(source, f"message_layers.{t}.")
        params[f"temporal_{t}"] = {"kernel_real": real[t], "kernel_imag": imag[t]}
        params[f"transition_{t}"] = {
            "vectors": linear(source, f"FTEs.{t}.vec_proj."),
            "scalars": mlp(source, f"FTEs.{t}.xvec_proj."),
        }
    source.finish(unused=UNUSED)
    sizes = {ours: config[theirs] for theirs, ours in FIELDS.items()}
    cutoff = float(config["cutoff"])
    module = AlphaNet(num_elements=len(elements), cutoff=cutoff, **sizes, published=True)
    return reference_potential(params, module, elements, dtype)


def _message(source: ReferenceParameters, path: str) -> dict[str, Any]:
    channels = linear(source, path + "dia.")
    return {
        "norm_scale": source.take(path + "x_layernorm.weight"),
        "norm_bias": source.take(path + "x_layernorm.bias"),
        "sources": mlp(source, path + "x_proj."),
        "edge": {
            "radial": linear(source, path + "rbf_proj."),
            "frame": mlp(source, path + "dir_proj."),
            "complex": linear(source, path + "scale."),
            "kernel_real": source.take(path + "kernel_real"),
            "kernel_imag": source.take(path + "kernel_imag"),
            "gates": mlp(source, path + "diagonal."),
            "direction": source.take(path + "diachi1"),
            "channels": {"kernel": channels["kernel"]},
            "channels_bias": channels["bias"],
            "numbers": linear(source, path + "fc_mps."),
        },
        "message_norm_scale": source.take(path + "dx_layer_norm.weight"),
        "message_norm_bias": source.take(path + "dx_layer_norm.bias"),
        "phase": linear(source, path + "scale2.0."),
    }
