"""Parameters of the published EquiformerV2 implementation (OC20)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlffjax.interop.parameters import (
    ReferenceParameters,
    check_settings,
    reference_potential,
)
from mlffjax.interop.torch_layers import linear
from mlffjax.models.equiformer_v2 import EquiformerV2
from mlffjax.potential import Potential

_NORMS: Mapping[str, str] = {
    "layer_norm_sh": "separable",
    "layer_norm": "degree_wise",
    "rms_norm_sh": "rms",
}
#: Constants of the published implementation, where a configuration does not say otherwise:
#: mean number of neighbours and of atoms in OC20's IS2RE 100k, and the Gaussians.
_DEFAULTS = {
    "avg_degree": 23.395238876342773,
    "avg_num_nodes": 77.81317,
    "distance_gaussians": 600,
    "basis_width_scalar": 2.0,
}
#: Settings that lead to layers this package does not have, with the only value read.
_FIXED = {
    "basis_width_scalar": 2.0,
    "use_s2_act_attn": False,
    "use_m_share_rad": False,
    "use_atom_edge_embedding": True,
    "share_atom_edge_embedding": False,
    "attn_activation": "silu",
    "ffn_activation": "silu",
    "proj_drop": 0.0,
    "distance_function": "gaussian",
}
#: Settings that are read.
_SETTINGS = (
    *("max_num_elements", "max_radius", "lmax_list", "mmax_list", "grid_resolution"),
    *("num_layers", "sphere_channels", "num_heads", "attn_hidden_channels"),
    *("attn_alpha_channels", "attn_value_channels", "ffn_hidden_channels", "edge_channels"),
    "norm_type",
)
#: Settings that have the published value where they are not given.
_OPTIONAL = (
    *_DEFAULTS,
    *("max_neighbors", "use_gate_act", "use_sep_s2_act", "use_grid_mlp", "use_attn_renorm"),
    *("regress_forces", "alpha_drop", "drop_path_rate"),
)
#: Settings that change no energy: names, how graphs are made, the start of a training, and a
#: number of Gaussians that the published implementation does not look at.
_HARMLESS = (
    *("name", "use_pbc", "otf_graph", "weight_init", "num_sphere_samples"),
    "num_distance_basis",
)


def module_from_config(config: Mapping[str, Any]) -> EquiformerV2:
    """The architecture with the published behaviour, from the reference's hyperparameters.

    Args:
      config: the section ``model`` of the published YAML files.

    Raises:
      ValueError: a setting that is not read, or one with a value that no published model has.
    """
    check_settings(config, _SETTINGS, _FIXED, _HARMLESS, _OPTIONAL)
    config = {**_DEFAULTS, **config}
    for key in ("lmax_list", "mmax_list"):
        if len(config[key]) != 1:
            raise ValueError(f"got {key} = {config[key]}; expected one resolution")
    resolution = config.get("grid_resolution")
    if resolution is None:
        raise ValueError("got no grid_resolution; expected the published 18; add it")
    gate, separable = config.get("use_gate_act", False), config.get("use_sep_s2_act", True)
    attention = "gate" if gate else "separable_s2" if separable else "s2"
    feed_forward = attention
    if config.get("use_grid_mlp", False):
        feed_forward = "separable_grid" if separable else "grid"
    return EquiformerV2(
        num_elements=config["max_num_elements"] - 1,
        cutoff=float(config["max_radius"]),
        avg_num_neighbors=config["avg_degree"],
        num_layers=config["num_layers"],
        num_channels=config["sphere_channels"],
        max_degree=config["lmax_list"][0],
        max_order=config["mmax_list"][0],
        num_heads=config["num_heads"],
        attention_channels=config["attn_hidden_channels"],
        alpha_channels=config["attn_alpha_channels"],
        value_channels=config["attn_value_channels"],
        feed_forward_channels=config["ffn_hidden_channels"],
        edge_channels=config["edge_channels"],
        num_basis=config["distance_gaussians"],
        norm=_NORMS[config["norm_type"]],
        attention_activation=attention,
        feed_forward_activation=feed_forward,
        renormalize_attention=config.get("use_attn_renorm", True),
        grid_rule="equiangular",
        attention_grid=(resolution, resolution),
        feed_forward_grid=(resolution, resolution),
        force_head="direct" if config.get("regress_forces", True) else "gradient",
        smooth_cutoff=False,
        max_neighbors=_limit(config.get("max_neighbors")),
        avg_num_atoms=config["avg_num_nodes"],
        alpha_drop=config.get("alpha_drop", 0.0),
        path_drop=config.get("drop_path_rate", 0.0),
    )


def read(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """An EquiformerV2 potential from the published implementation's parameters.

    Left out, because nothing depends on them: the layers of the energy head that feed only
    degrees above 0 (all but one path, in a separable activation), and the degrees other than 1
    of the projection of the force head.

    The published checkpoints were trained on energies minus a mean and over a standard
    deviation (``target_mean``, ``target_std`` of their YAML files). Multiply by the latter with
    ``potential.replace(scale=...)``; the mean is one constant a structure, whatever its size, and
    has to be added to the energies afterwards.

    Args:
      config: hyperparameters, as the section ``model`` of the published YAML files.
      weights: parameters by name in torch's layout; row ``k`` of an embedding is the element of
        atomic number ``k``, row 0 none.
      dtype: of the parameters.

    Raises:
      ValueError: settings that are not read, or parameters missing or left over.
    """
    module = module_from_config(config)
    source = ReferenceParameters(weights)
    _check_cutoff(source, module)
    params: dict[str, Any] = {
        "embedding": source.take("sphere_embedding.weight")[1:],
        "edge_degree": _radial(source, "edge_degree_embedding."),
        "norm": _norm(source, "norm.", module.norm),
        "energy": _feed_forward(source, "energy_block.", module, scalars_only=True),
    }
    for t in range(module.num_layers):
        path = f"blocks.{t}."
        params[f"block_{t}"] = {
            "norm_0": _norm(source, path + "norm_1.", module.norm),
            "attention": _attention(source, path + "ga.", module),
            "projection": _so3_linear(source, path + "ga.proj."),
            "norm_1": _norm(source, path + "norm_2.", module.norm),
            "feed_forward": _feed_forward(source, path + "ffn.", module),
        }
    if module.direct_forces:
        params["forces"] = _attention(source, "force_block.", module)
        kernel = _so3_linear(source, "force_block.proj.")["kernel"][1]
        params["force_readout"] = {"kernel": kernel}
    source.finish(unused=_functionless(module))
    elements = tuple(range(1, module.num_elements + 1))
    return reference_potential(params, module, elements, dtype)


def _check_cutoff(source: ReferenceParameters, module: EquiformerV2) -> None:
    """Refuse another cutoff than that of the Gaussians, whose centres the file has."""
    name = "distance_expansion.offset"
    if name in source.names() and not np.isclose(last := source.take(name)[-1], module.cutoff):
        raise ValueError(
            f"got max_radius = {module.cutoff:g} where the last Gaussian of the file is at {last:g}"
            " Angstrom; expected the same; correct max_radius"
        )


def _limit(max_neighbors: int | None) -> int | None:
    """The published default of 500 is no limit within any cutoff used; sorting would cost time."""
    return None if max_neighbors is None or max_neighbors >= 500 else max_neighbors


#: Endings of the names of tables that the published implementation stores beside its parameters.
_TABLES = (
    *("expand_index", "balance_degree_weight", "distance_expansion.offset"),
    *("l_harmonic", "m_harmonic", "m_complex", "res_size", "to_m", "m_size"),
    *("to_grid_mat", "from_grid_mat"),
)


def _functionless(module: EquiformerV2) -> tuple[str, ...]:
    """Endings of tables, and of parameters without a part in any result."""
    if module.feed_forward_activation not in ("separable_grid", "separable_s2"):
        return _TABLES
    return (
        *_TABLES,
        *("energy_block.so3_linear_1.weight", "energy_block.so3_linear_1.bias"),
        *(f"energy_block.grid_mlp.{n}.weight" for n in (0, 2, 4)),
    )


def _radial(source: ReferenceParameters, path: str, network: str = "") -> dict[str, Any]:
    """Of :class:`mlffjax.nn.element_radial.RadialParameters`.

    In attention blocks the network belongs to the first convolution, the embeddings do not.
    """
    net = f"{path}{network}rad_func.net."
    return {
        "sender": source.take(path + "source_embedding.weight")[1:],
        "receiver": source.take(path + "target_embedding.weight")[1:],
        **linear(source, net + "0."),
        "norm_0": _layer_norm(source, net + "1."),
        "layer_1": linear(source, net + "3."),
        "norm_1": _layer_norm(source, net + "4."),
        "layer_2": linear(source, net + "6."),
    }


def _attention(source: ReferenceParameters, path: str, module: EquiformerV2) -> dict[str, Any]:
    """Of :class:`mlffjax.models.equiformer_v2.GraphAttention`."""
    params = {
        "radial": _radial(source, path, "so2_conv_1."),
        "mix_0": _so2_linear(source, path + "so2_conv_1.", module.max_order),
        "mix_1": _so2_linear(source, path + "so2_conv_2.", module.max_order),
        "alpha": source.take(path + "alpha_dot").T,
    }
    if module.renormalize_attention:
        params["alpha_norm"] = _layer_norm(source, path + "alpha_norm.")
    return params


def _layer_norm(source: ReferenceParameters, path: str) -> dict[str, Any]:
    """Scale and bias of a layer norm."""
    return {"scale": source.take(path + "weight"), "bias": source.take(path + "bias")}


def _so2_linear(source: ReferenceParameters, path: str, max_order: int) -> dict[str, Any]:
    params = linear(source, path + "fc_m0.")
    params = {"kernel_0": params["kernel"], "bias": params["bias"]}
    for m in range(1, max_order + 1):
        params[f"kernel_{m}"] = source.take(f"{path}so2_m_conv.{m - 1}.fc.weight").T
    return params


def _so3_linear(source: ReferenceParameters, path: str) -> dict[str, Any]:
    kernel = source.take(path + "weight").transpose(0, 2, 1)
    return {"kernel": kernel, "bias": source.take(path + "bias")}


def _norm(source: ReferenceParameters, path: str, kind: str) -> dict[str, Any]:
    weight = source.take(path + "affine_weight")
    if kind == "separable":
        scalars = _layer_norm(source, path + "norm_l0.")
        return {"scale": np.concatenate([scalars["scale"][None], weight]), "bias": scalars["bias"]}
    return {"scale": weight, "bias": source.take(path + "affine_bias")}


def _feed_forward(
    source: ReferenceParameters, path: str, module: EquiformerV2, *, scalars_only: bool = False
) -> dict[str, Any]:
    """Of :class:`mlffjax.models.equiformer_v2.FeedForward`."""
    kind = module.feed_forward_activation
    separable = kind in ("separable_grid", "separable_s2")
    params: dict[str, Any] = {}
    if kind == "separable_grid":
        params["scalars"] = linear(source, path + "scalar_mlp.0.")
    elif kind in ("separable_s2", "gate"):
        name = "gates" if kind == "gate" else "scalars"
        params[name] = linear(source, path + "gating_linear.")
    output = _so3_linear(source, path + "so3_linear_2.")
    if scalars_only:
        output = {"kernel": output["kernel"][0], "bias": output["bias"]}
    params["output"] = output
    if scalars_only and separable:
        return params
    params["input"] = _so3_linear(source, path + "so3_linear_1.")
    if kind in ("separable_grid", "grid"):
        for k, n in enumerate((0, 2, 4)):
            params[f"grid_{k}"] = linear(source, f"{path}grid_mlp.{n}.")
    return params
