"""The registry of architectures: adding one is a file here, its import and its name below."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mlffjax.models.alphanet import AlphaNet as AlphaNet
from mlffjax.models.base import Architecture as Architecture
from mlffjax.models.base import AtomwiseOutput as AtomwiseOutput
from mlffjax.models.equiformer_v2 import EquiformerV2 as EquiformerV2
from mlffjax.models.leignn import LEIGNN as LEIGNN
from mlffjax.models.mace import MACE as MACE
from mlffjax.models.nequip import NequIP as NequIP
from mlffjax.models.painn import PaiNN as PaiNN
from mlffjax.models.schnet import SchNet as SchNet
from mlffjax.models.so3krates import SO3krates as SO3krates

ARCHITECTURES: Mapping[str, type[Architecture]] = {
    "alphanet": AlphaNet,
    "equiformer_v2": EquiformerV2,
    "leignn": LEIGNN,
    "mace": MACE,
    "nequip": NequIP,
    "painn": PaiNN,
    "schnet": SchNet,
    "so3krates": SO3krates,
}


def build(name: str, settings: Mapping[str, Any]) -> Architecture:
    """The architecture ``name`` with the fields ``settings``.

    Lists become tuples, so that modules stay hashable.

    Raises:
      ValueError: unknown architecture or field, with the known ones.

    >>> build("so3krates", {"num_layers": 2}).num_layers
    2
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"got the architecture {name!r}; expected one of {', '.join(sorted(ARCHITECTURES))}"
        )
    cls = ARCHITECTURES[name]
    known = hyperparameters(cls)
    for key in settings:
        if key not in known:
            raise ValueError(
                f"got the unknown setting {key!r} for {name}; expected some of {', '.join(known)}"
            )
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return cls(**values)


def hyperparameters(cls: type[Architecture]) -> tuple[str, ...]:
    """Names of the configuration fields of an architecture."""
    return tuple(f.name for f in fields(cls) if f.name not in ("parent", "name"))


def describe(module: Architecture) -> tuple[str, dict[str, Any]]:
    """Registry name and fields of a module: the inverse of :func:`build`."""
    for name, cls in ARCHITECTURES.items():
        if type(module) is cls:
            return name, {key: getattr(module, key) for key in hyperparameters(cls)}
    raise ValueError(
        f"got a {type(module).__name__}, which is not in the registry; add it to "
        "ARCHITECTURES in mlffjax/models/__init__.py"
    )
