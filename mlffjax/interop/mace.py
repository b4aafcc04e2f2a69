"""Parameters of the reference implementation of MACE (mace-torch, classes MACE, ScaleShiftMACE)."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from mlffjax.interop.mace_checkpoint import INTERACTIONS
from mlffjax.interop.parameters import ReferenceParameters, check_settings
from mlffjax.models.mace import MACE
from mlffjax.nn.clebsch_gordan import clebsch_gordan, symmetric_couplings
from mlffjax.nn.equivariant_linear import SILU_SCALE
from mlffjax.nn.pair_repulsion import SCREENING
from mlffjax.nn.tensor_product import Irrep, Path, coupling_paths, natural_irreps
from mlffjax.potential import Potential

#: Activations of the reference have unit second moment by a sampled constant of e3nn, here by the
#: exact integral; the layer after an activation takes the quotient.
ACTIVATION = 1.6791767923989418 / SILU_SCALE

#: Endings of what the file holds beside parameters: constants, masks, empty biases.
CONSTANTS = (
    "r_max",
    "output_mask",
    "prefactor",
    "bias",
    "conv_tp.weight",
    "atomic_numbers",
    "num_interactions",
    "cutoff_fn.p",
    "atomic_energies",
    "scale_shift.scale",
    "scale_shift.shift",
    "_zeroed",
)
#: Settings that are read.
SETTINGS = (
    *("atomic_numbers", "E0s", "r_max", "num_bessel", "p", "max_ell", "interaction_first"),
    *("num_interactions", "hidden_irreps", "MLP_irreps", "avg_num_neighbors"),
    *("correlation", "radial_MLP"),
)
#: Settings that are read where they are given.
OPTIONAL = ("interaction", "scale", "shift", "distance_transform", "pair_repulsion")
#: Settings whose other values lead to functions that this package does not have.
FIXED_SETTINGS = {"gate": "silu", "radial_type": "bessel"}
#: Settings that only say where the others come from.
HARMLESS = ("class", "reference")
#: Constants of the distance transform and of the pair repulsion that are no fields here.
FIXED = {
    "radial_embedding.distance_transform.a": 1.0805,
    "radial_embedding.distance_transform.q": 0.9183,
    "radial_embedding.distance_transform.p": 4.5791,
    "radial_embedding.distance_transform.covalent_radii": covalent_radii,
    "pair_repulsion_fn.c": [strength for strength, _ in SCREENING],
    "pair_repulsion_fn.covalent_radii": covalent_radii,
    "pair_repulsion_fn.a_exp": 0.300,
    "pair_repulsion_fn.a_prefactor": 0.4543,
}


def read(
    config: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, dtype: Any = jnp.float32
) -> Potential:
    """A MACE potential from mace-torch's hyperparameters and parameters.

    The coupling tensors (``U_matrix``) of the file are any basis of couplings; weights are
    transformed to the basis of this package.

    Args:
      config: ``atomic_numbers``, ``E0s`` (eV), ``r_max``, ``num_bessel``, ``p``, ``max_ell``,
        ``interaction_first``, ``num_interactions``, ``hidden_irreps``, ``MLP_irreps``,
        ``avg_num_neighbors``, ``correlation``, ``radial_MLP``, and where there are such,
        ``scale``, ``shift``, ``distance_transform`` (``Agnesi``), ``pair_repulsion`` and
        ``interaction``, the class of all interactions but the first.
      weights: the state dict by torch's names.
      dtype: of the parameters.

    Raises:
      ValueError: settings that are not read, parameters missing or left over, hidden irreps
        other than ``0e, 1o, 2e, ...`` of equal width, trained Bessel frequencies or other
        constants, or couplings that are not equivariant.
    """
    check_settings(config, SETTINGS, FIXED_SETTINGS, HARMLESS, OPTIONAL)
    _check_interactions(config)
    source = ReferenceParameters(weights)
    elements = [int(z) for z in config["atomic_numbers"]]
    if elements != sorted(set(elements)):
        raise ValueError(f"got the atomic numbers {elements}; expected distinct, ascending ones")
    module = _module(config, len(elements))
    _check_frequencies(source, module)
    _check_constants(source, module)
    _check_stored_settings(source, config)
    embedding = source.take("node_embedding.linear.weight").reshape(len(elements), -1)
    params: dict[str, Any] = {"embedding": embedding / math.sqrt(len(elements))}
    for layer in range(module.num_layers):
        params[f"layer_{layer}"] = _layer(source, module, layer)
        params |= _readout(source, module, layer)
    source.finish(CONSTANTS)
    return Potential(
        params={"params": jax.tree.map(lambda x: jnp.asarray(x, dtype), params)},
        module=module,
        elements=tuple(elements),
        baseline=tuple(float(e) for e in config["E0s"]),
        scale=float(config.get("scale", 1.0)),
        shift=(float(config["shift"]),) * len(elements) if "shift" in config else None,
    )


def _module(config: Mapping[str, Any], num_elements: int) -> MACE:
    hidden = config["hidden_irreps"].replace(" ", "").split("+")
    channels = int(hidden[0].split("x")[0])
    degree = len(hidden) - 1
    if hidden != [f"{channels}x{irrep.label}" for irrep in natural_irreps(degree)]:
        raise ValueError(
            f"got the hidden irreps {config['hidden_irreps']!r}; expected 0e + 1o + 2e + ... of "
            "equal width; other models cannot be read"
        )
    transform = config.get("distance_transform")
    return MACE(
        num_elements=num_elements,
        cutoff=float(config["r_max"]),
        avg_num_neighbors=float(config["avg_num_neighbors"]),
        num_channels=channels,
        max_degree=config["max_ell"],
        hidden_degree=degree,
        correlation=config["correlation"],
        num_layers=config["num_interactions"],
        num_bessel=config["num_bessel"],
        envelope_power=int(config["p"]),
        radial_widths=tuple(config["radial_MLP"]),
        readout_width=int(config["MLP_irreps"].split("x")[0]),
        residual_first="Residual" in config["interaction_first"],
        density_normalization="Density" in config["interaction_first"],
        distance_transform=None if transform in (None, "None") else str(transform).lower(),
        pair_repulsion=bool(config.get("pair_repulsion", False)),
    )


def _check_interactions(config: Mapping[str, Any]) -> None:
    first = config["interaction_first"]
    if first not in INTERACTIONS:
        raise ValueError(
            f"got interaction_first {first!r}; expected one of {', '.join(INTERACTIONS)}; others "
            "cannot be read"
        )
    others = INTERACTIONS[first]
    if config.get("interaction", others) != others:
        raise ValueError(
            f"got interaction {config['interaction']!r} after {first!r}; expected {others!r}, the "
            "only one read"
        )


def _check_frequencies(source: ReferenceParameters, module: MACE) -> None:
    theirs = source.take("radial_embedding.bessel_fn.bessel_weights")
    ours = np.pi / module.cutoff * np.arange(1, module.num_bessel + 1)
    if not np.allclose(theirs, ours, rtol=1e-5):
        raise ValueError(
            f"got Bessel frequencies {theirs}; expected multiples of pi / r_max; a model with "
            "trained frequencies cannot be read"
        )


def _check_constants(source: ReferenceParameters, module: MACE) -> None:
    expected: dict[str, Any] = {
        **FIXED,
        "pair_repulsion_fn.p": module.envelope_power,
    }
    for name in source.names():
        if name not in expected:
            continue
        wanted, theirs = np.asarray(expected[name]), source.take(name)
        if theirs.size > wanted.size or not np.allclose(
            theirs, wanted.reshape(-1)[: theirs.size].reshape(theirs.shape), rtol=1e-5
        ):
            raise ValueError(
                f"got other numbers than published for {name}, such as {theirs.flat[0]:.6g}; "
                f"expected {wanted.flat[0]:.6g}; a model with trained constants cannot be read"
            )


def _check_stored_settings(source: ReferenceParameters, config: Mapping[str, Any]) -> None:
    """Refuse settings other than those that the file holds beside its parameters."""
    given: dict[str, Any] = {
        "atomic_numbers": config["atomic_numbers"],
        "atomic_energies_fn.atomic_energies": config["E0s"],
        "r_max": config["r_max"],
        "radial_embedding.cutoff_fn.p": config["p"],
        "scale_shift.scale": config.get("scale", 1.0),
        "scale_shift.shift": config.get("shift", 0.0),
    }
    for name in sorted(given.keys() & set(source.names())):
        stored, value = np.ravel(source.take(name)), np.ravel(np.asarray(given[name], np.float64))
        if stored.shape != value.shape or not np.allclose(stored, value, rtol=1e-5, atol=1e-8):
            raise ValueError(
                f"got settings with {value.tolist()} where the file has {name} = "
                f"{stored.tolist()}; expected the same; correct the settings"
            )


def _layer(source: ReferenceParameters, module: MACE, layer: int) -> dict[str, Any]:
    channels, num_elements = module.num_channels, module.num_elements
    path = f"interactions.{layer}."
    sources = natural_irreps(0 if layer == 0 else module.hidden_degree)
    targets = natural_irreps(module.max_degree)
    outputs = natural_irreps(0 if layer + 1 == module.num_layers else module.hidden_degree)
    paths = coupling_paths(sources, module.max_degree, targets)
    residual = layer > 0 or module.residual_first
    kept = outputs[: min(len(sources), len(outputs))] if residual else targets
    skip = source.take(path + "skip_tp.weight").reshape(-1, channels, num_elements, channels)
    skip = skip.transpose(0, 2, 1, 3) / math.sqrt(num_elements)
    params: dict[str, Any] = {
        "up": _linear(source.take(path + "linear_up.weight"), sources, channels),
        "radial": _radial(source, module, path, sources, targets, paths),
        "linear": _linear(source.take(path + "linear.weight"), targets, channels, paths),
        "skip": {irrep.label: kernel for irrep, kernel in zip(kept, skip, strict=True)},
        "product": _product(source, module, layer, len(outputs)),
        "product_linear": _linear(
            source.take(f"products.{layer}.linear.weight"), outputs, channels
        ),
    }
    if module.density_normalization:
        params["density"] = {"kernel": source.take(path + "density_fn.layer0.weight")}
    return params


def _linear(
    flat: Float[np.ndarray, "weights"],
    irreps: Sequence[Irrep],
    channels: int,
    paths: Sequence[Path] = (),
) -> dict[str, Any]:
    """Kernels ``[in, out]`` of all irreps, which the reference keeps in one flat array."""
    counts = [sum(p.target == k for p in paths) or 1 for k in range(len(irreps))]
    ends = np.cumsum([count * channels * channels for count in counts])
    parts = np.split(flat, ends[:-1])
    return {
        irrep.label: {"kernel": part.reshape(-1, channels)}
        for irrep, part in zip(irreps, parts, strict=True)
    }


def _radial(
    source: ReferenceParameters,
    module: MACE,
    path: str,
    sources: Sequence[Irrep],
    targets: Sequence[Irrep],
    paths: Sequence[Path],
) -> dict[str, np.ndarray]:
    depth = len(module.radial_widths)
    kernels = {
        f"kernel_{k}": source.take(f"{path}conv_tp_weights.layer{k}.weight")
        * (ACTIVATION if k > 0 else 1.0)
        for k in range(depth + 1)
    }
    signs = [_path_sign(source, path, p, sources, targets) for p in paths]
    kernels[f"kernel_{depth}"] *= np.repeat(signs, module.num_channels)
    return kernels


def _path_sign(
    source: ReferenceParameters,
    interaction: str,
    path: Path,
    sources: Sequence[Irrep],
    targets: Sequence[Irrep],
) -> float:
    """Sign between the two conventions of one Clebsch-Gordan tensor."""
    degrees = sources[path.source].degree, path.degree, targets[path.target].degree
    if 0 in degrees:
        return 1.0  # a positive multiple of the identity in both
    name = interaction + "conv_tp._compiled_main_left_right._w3j_{}_{}_{}".format(*degrees)
    theirs = np.einsum("abc,ax,by,cz->xyz", source.take(name), *map(_axes, degrees))
    ours = clebsch_gordan(*degrees) / math.sqrt(2 * degrees[2] + 1)
    sign = float(np.sign(np.sum(ours * theirs)))
    if not np.allclose(ours, sign * theirs, atol=1e-5):
        raise ValueError(
            f"got a tensor {name} that is not a Clebsch-Gordan tensor in e3nn's conventions; "
            "expected one; the weights cannot be read"
        )
    return sign


def _readout(source: ReferenceParameters, module: MACE, layer: int) -> dict[str, Any]:
    path = f"readouts.{layer}."
    if layer + 1 < module.num_layers:
        return {f"readout_{layer}": {"kernel": source.take(path + "linear.weight").reshape(-1, 1)}}
    hidden = source.take(path + "linear_1.weight").reshape(-1, module.readout_width)
    out = source.take(path + "linear_2.weight").reshape(-1, 1) * ACTIVATION
    return {f"readout_{layer}_hidden": {"kernel": hidden}, f"readout_{layer}": {"kernel": out}}


def _product(
    source: ReferenceParameters, module: MACE, layer: int, num_degrees: int
) -> dict[str, np.ndarray]:
    result = {}
    for degree in range(num_degrees):
        prefix = f"products.{layer}.symmetric_contractions.contractions.{degree}."
        for order in range(1, module.correlation + 1):
            below = module.correlation - order
            name = "weights_max" if below == 0 else f"weights.{below - 1}"
            couplings = source.take(f"{prefix}U_matrix_{order}")
            if couplings.ndim == order + 1:
                couplings = couplings[None]
            mixing = _change_of_couplings(couplings, module.max_degree, degree)
            result[f"degree_{degree}_order_{order}"] = np.einsum(
                "jk,zkc->zjc", mixing, source.take(prefix + name)
            )
    return result


@cache
def _axes(degree: int) -> Float[np.ndarray, "theirs ours"]:
    """Components of degree ``l`` in e3nn's order, in terms of this package's.

    Both have real harmonics, but e3nn's polar axis is y: its degree 1 is (x, y, z), where this
    package has (y, z, x). Higher degrees follow by coupling with degree 1.
    """
    if degree == 0:
        return np.eye(1)
    if degree == 1:
        return np.eye(3)[[2, 0, 1]]
    coupling = clebsch_gordan(degree - 1, 1, degree)
    return np.einsum(
        "abc,ax,by,xyz->cz", coupling, _axes(degree - 1), _axes(1), coupling, optimize=True
    )


def _change_of_couplings(
    theirs: Float[np.ndarray, "m ... couplings"], max_degree: int, degree: int
) -> Float[np.ndarray, "ours theirs"]:
    """Each coupling of the file in terms of this package's, by least squares without remainder."""
    order = theirs.ndim - 2
    axes = np.zeros(2 * ((max_degree + 1) ** 2,))
    for d in range(max_degree + 1):
        here = slice(d**2, (d + 1) ** 2)
        axes[here, here] = _axes(d)
    tensor = np.moveaxis(np.tensordot(theirs, _axes(degree), axes=(0, 0)), -1, 0)
    for axis in range(1, order + 1):
        tensor = np.moveaxis(np.tensordot(tensor, axes, axes=(axis, 0)), -1, axis)
    # The coefficient of a monomial is the sum over the distinct orders of its factors.
    orders = permutations(range(1, order + 1))
    tensor = np.sum([tensor.transpose(0, *p, order + 1) for p in orders], axis=0)
    ours = symmetric_couplings(max_degree, degree, order)
    repeats = np.array(
        [math.prod(math.factorial(list(row).count(i)) for i in set(row)) for row in ours.monomials]
    )
    chosen = tensor[(slice(None), *ours.monomials.T)]
    wanted = (chosen / repeats[:, None]).reshape(-1, theirs.shape[-1])
    basis = ours.coefficients.transpose(2, 0, 1).reshape(len(wanted), -1)
    mixing, *_ = np.linalg.lstsq(basis, wanted, rcond=None)
    # A monomial stands for order!/repeats entries of the tensor; entries of other monomials and
    # what the basis cannot express must vanish.
    total = np.sum(tensor**2)
    outside = total - np.sum(chosen**2 * (math.factorial(order) / repeats[:, None]))
    remainder = np.sum((basis @ mixing - wanted) ** 2)
    if max(abs(outside), remainder) > 1e-8 * total:
        raise ValueError(
            f"got coupling tensors of order {order} to degree {degree} that are not equivariant "
            "in e3nn's conventions; expected a basis of couplings; the weights cannot be read"
        )
    return mixing
