"""Hyperparameters of a pickled mace-torch model (classes MACE and ScaleShiftMACE)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlffjax.interop.torch_file import TorchObject, read_torch_file, state_dict_of

MODELS = ("MACE", "ScaleShiftMACE")
#: Classes that the first interaction may have, and that of the others then.
INTERACTIONS = {
    "RealAgnosticInteractionBlock": "RealAgnosticResidualInteractionBlock",
    "RealAgnosticResidualInteractionBlock": "RealAgnosticResidualInteractionBlock",
    "RealAgnosticDensityInteractionBlock": "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock": "RealAgnosticDensityResidualInteractionBlock",
}
#: Normalisation of SiLU by e3nn 0.4.4, a mean over a million random numbers of a fixed seed.
SILU_CONSTANT = 1.6791767923989418
#: Attributes of the model that change the formulas, with the only value that is read.
SWITCHES = {
    "apply_cutoff": True,
    "use_so3": False,
    "use_agnostic_product": False,
    "use_last_readout_only": False,
    "edge_irreps": None,
    "joint_embedding": None,
    "embedding_specs": None,
}


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Hyperparameters and parameters of a model that ``torch.save`` has pickled as a whole.

    The file is read as :mod:`mlffjax.interop.torch_file` says: without torch and mace-torch, and
    without running anything in it.

    Args:
      path: such as ``MACE.model``, written by mace-torch's training or published.

    Returns:
      What :func:`mlffjax.interop.mace.read` takes.

    Raises:
      ValueError: no such file, no model of the two classes, or one whose formulas this package
        does not have; the message names what was found.
    """
    model = read_torch_file(path)
    kind = model.name if isinstance(model, TorchObject) else type(model).__name__
    if kind not in MODELS or not model.kind.startswith("mace."):
        compiled = isinstance(model, TorchObject) and model.kind.startswith("__torch__")
        raise ValueError(
            f"got {'a compiled model' if compiled else f'an object of the class {kind}'} in "
            f"{path}; expected a pickled model of the class {' or '.join(MODELS)}; save the "
            "model itself with torch.save(model, FILE)"
        )
    return hyperparameters(model), state_dict_of(model, str(path))


def hyperparameters(model: TorchObject) -> dict[str, Any]:
    """The settings of :func:`mlffjax.interop.mace.read` from the attributes of a model.

    Args:
      model: of the class MACE or ScaleShiftMACE.

    Raises:
      ValueError: a layer or a switch that is not read, or a part that is missing.
    """
    try:
        return _hyperparameters(model)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"got a model of the class {model.name} with other parts than mace-torch 0.3 gives "
            f"it ({type(error).__name__}: {error}); expected the model as it was trained"
        ) from error


def _hyperparameters(model: TorchObject) -> dict[str, Any]:
    for switch, expected in SWITCHES.items():
        _expect(f"{switch} =", model.get(switch, expected), [expected])
    heads = list(model.get("heads", ["Default"]))
    if len(heads) != 1:
        raise ValueError(
            f"got a model with the heads {', '.join(map(str, heads))}; expected one; select one "
            "with mace-torch's mace_select_head and save it"
        )
    blocks, products = _items(model, "interactions"), _items(model, "products")
    readouts = _items(model, "readouts")
    _expect_layers(blocks, readouts)
    _expect_activations(blocks, readouts[-1])
    hidden = irreps_text(blocks[0].get("hidden_irreps"))
    last = irreps_text(blocks[-1].get("hidden_irreps"))
    if last != hidden.split("+")[0]:
        raise ValueError(f"got the irreps {last} after the last layer; expected its scalars alone")
    radial = model.get("radial_embedding")
    transform = radial.get("distance_transform")
    _expect("the radial basis", radial.get("bessel_fn").name, ["BesselBasis"])
    if transform is not None:
        _expect("the distance transform", transform.name, ["AgnesiTransform"])
    shells = model.get("spherical_harmonics")
    _expect("spherical harmonics of the norm", shells.get("normalization"), ["component"])
    pairs = model.get("pair_repulsion_fn")
    config = {
        "atomic_numbers": np.ravel(model.get("atomic_numbers")).tolist(),
        "E0s": np.ravel(model.get("atomic_energies_fn").get("atomic_energies")).tolist(),
        "r_max": _number(model.get("r_max")),
        "num_bessel": len(radial.get("bessel_fn").get("bessel_weights")),
        "p": int(_number(radial.get("cutoff_fn").get("p"))),
        "max_ell": int(shells.get("_lmax")),
        "interaction_first": blocks[0].name,
        "num_interactions": len(blocks),
        "hidden_irreps": hidden,
        "MLP_irreps": irreps_text(readouts[-1].get("hidden_irreps")),
        "avg_num_neighbors": _same(
            "avg_num_neighbors", [_number(block.get("avg_num_neighbors")) for block in blocks]
        ),
        "correlation": _same("correlation", [_correlation(product) for product in products]),
        "radial_MLP": _same("radial_MLP", [_radial_widths(block) for block in blocks]),
        "distance_transform": None if transform is None else "Agnesi",
        "pair_repulsion": pairs is not None,
    }
    if model.name == "ScaleShiftMACE":
        for name in ("scale", "shift"):
            config[name] = _number(model.get("scale_shift").get(name))
    return config


def irreps_text(irreps: Any) -> str:
    """``16x0e+16x1o`` from irreps of e3nn, which are nested tuples, or from a text.

    Raises:
      ValueError: no irreps.
    """
    if isinstance(irreps, str):
        return irreps.replace(" ", "")
    parts = []
    try:
        for part in irreps.arguments[0]:
            count, irrep = part.arguments[0]
            degree, parity = irrep.arguments[0]
            parts.append(f"{int(count)}x{int(degree)}{ {1: 'e', -1: 'o'}[parity] }")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ValueError(f"got {irreps!r}; expected irreps of e3nn; check the file") from None
    return "+".join(parts)


def _expect(what: str, got: Any, expected: Sequence[Any]) -> None:
    if got not in expected:
        raise ValueError(
            f"got {what} {getattr(got, 'kind', got)!s}; expected "
            f"{' or '.join(map(str, expected))}; no other is read"
        )


def _expect_layers(blocks: Sequence[TorchObject], readouts: Sequence[TorchObject]) -> None:
    """Classes of the layers."""
    if len(blocks) < 2:
        raise ValueError(
            "got a model with one interaction; expected at least two; others have no "
            "non-linear readout and are not read"
        )
    _expect("a first interaction of the class", blocks[0].name, [*INTERACTIONS])
    for block in blocks[1:]:
        _expect("an interaction of the class", block.name, [INTERACTIONS[blocks[0].name]])
    names = [readout.name for readout in readouts]
    expected = ["LinearReadoutBlock"] * (len(blocks) - 1) + ["NonLinearReadoutBlock"]
    _expect("the readouts", names, [expected])
    for module in (block.get(name) for block in blocks for name in ("linear_up", "conv_tp")):
        _expect("a layer of the package", module.kind.partition(".")[0], ["e3nn"])


def _expect_activations(blocks: Sequence[TorchObject], readout: TorchObject) -> None:
    """All activations are SiLU, normalised as e3nn 0.4.4 does."""
    layers = [layer for block in blocks for layer in _radial_layers(block)[:-1]]
    activations = [layer.get("act") for layer in layers]
    activations += _items(readout.get("non_linearity"), "acts")
    for activation in activations:
        _expect("the activation", getattr(activation.get("f"), "kind", None), SILU_NAMES)
        if abs(activation.get("cst") - SILU_CONSTANT) > 1e-6:
            raise ValueError(
                f"got the normalisation {activation.get('cst')} of SiLU; expected "
                f"{SILU_CONSTANT:.6f}, e3nn 0.4.4's; no other is read"
            )


SILU_NAMES = ("torch.nn.functional.silu", "torch.nn.modules.activation.SiLU")


def _radial_layers(block: TorchObject) -> list[TorchObject]:
    network = block.get("conv_tp_weights")
    _expect("the radial network", network.name, ["FullyConnectedNet"])
    modules = network.state["_modules"]
    return [modules[name] for name in modules if name.startswith("layer")]


def _radial_widths(block: TorchObject) -> list[int]:
    return [layer.get("weight").shape[1] for layer in _radial_layers(block)[:-1]]


def _correlation(product: TorchObject) -> int:
    contractions = _items(product.get("symmetric_contractions"), "contractions")
    return _same("correlation", [int(c.get("correlation")) for c in contractions])


def _items(module: TorchObject, name: str) -> list[TorchObject]:
    """The parts of a module list, in its order."""
    return list((module.get(name).state.get("_modules") or {}).values())


def _number(value: Any) -> float:
    return float(np.ravel(np.asarray(value))[0]) if np.size(value) == 1 else _refuse(value)


def _refuse(value: Any) -> float:
    raise ValueError(f"got {value} for one number; expected a single head; select one and save it")


def _same(what: str, values: Sequence[Any]) -> Any:
    """The value that all layers share."""
    if any(value != values[0] for value in values):
        raise ValueError(f"got {what} {values} of the layers; expected the same in all of them")
    return values[0]
