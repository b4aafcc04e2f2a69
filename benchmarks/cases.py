"""Which models are timed on which systems: the rows of the tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Settings of each model by its name here. ``architecture`` is a name of our registry;
#: ``compressed`` the tolerance of a compressed potential; the others are understood by every code
#: that has the model. Published sizes, 5 Angstrom for all.
_MACE = {
    "architecture": "mace",
    "cutoff": 5.0,
    "num_channels": 128,
    "max_degree": 3,
    "hidden_degree": 1,
    "correlation": 3,
    "num_layers": 2,
    "avg_num_neighbors": 20.0,
}
_NEQUIP = {
    "architecture": "nequip",
    "cutoff": 5.0,
    "num_channels": 64,
    "max_degree": 2,
    "num_layers": 4,
    "both_parities": True,
    "avg_num_neighbors": 20.0,
}
_SCHNET = {"architecture": "schnet", "cutoff": 5.0, "num_features": 132, "num_layers": 6}
_SO3KRATES = {"architecture": "so3krates", "cutoff": 5.0, "num_features": 132, "num_layers": 3}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "mace": _MACE,
    "nequip": _NEQUIP,
    "nequip-even": {**_NEQUIP, "both_parities": False},
    "so3krates": _SO3KRATES,
    # Filters as splines, at the default tolerance, as dynamics on CPUs has them by itself.
    "so3krates-compressed": {**_SO3KRATES, "compressed": 1e-5},
    # Width and cutoff of SO3krates, layers as published.
    "schnet": _SCHNET,
    "schnet-compressed": {**_SCHNET, "compressed": 1e-5},
    "painn": {"architecture": "painn", "cutoff": 5.0},
    "leignn": {"architecture": "leignn", "cutoff": 5.0, "num_features": 128},
    "alphanet": {"architecture": "alphanet", "cutoff": 5.0},
    "equiformer_v2": {"architecture": "equiformer_v2", "cutoff": 5.0},
    # SO3krates in the size of SO3LR, whose energies of long range ours has not (its published
    # hyperparameters; Kabylda et al., J. Am. Chem. Soc. 147, 33723, 2025).
    "so3lr": {
        "architecture": "so3krates",
        "cutoff": 4.5,
        "num_features": 128,
        "num_layers": 3,
        "degrees": (1, 2, 3, 4),
    },
    # mlip's default: 4 layers, 256 channels, degree 2.
    "visnet": {"architecture": "visnet", "cutoff": 5.0, "avg_num_neighbors": 20.0},
    **{
        f"mace256-L{degree}": {**_MACE, "num_channels": 256, "hidden_degree": degree}
        for degree in (0, 1, 2)
    },
    **{f"mace-l{degree}": {**_MACE, "max_degree": degree} for degree in (1, 2, 4)},
    # mlip's default: hidden features up to the degree of the harmonics. 1.2 million
    # parameters; the sizes of its published model of 3.3 million are not known here.
    "mace-L3": {**_MACE, "hidden_degree": 3},
    **{
        f"so3krates-l{degree}": {**_SO3KRATES, "degrees": tuple(range(1, degree + 1))}
        for degree in (1, 2)
    },
    **{f"so3krates-r{radius}": {**_SO3KRATES, "cutoff": float(radius)} for radius in (3, 4, 6)},
}
#: Models that other codes have and we have not: their rows show the others alone.
PEERS_ONLY = frozenset({"visnet"})


@dataclass(frozen=True)
class Row:
    """One measurement: a task on a system, by all codes that have the models.

    Attributes:
      task: ``forces``, ``training`` or ``md``.
      system: name of a system (``structures.make``).
      models: names in :data:`MODELS`.
      batch: structures of a batch; the frames of the system are repeated as needed.
      steps: steps of one call (training, dynamics).
      note: what the row stands for.
    """

    task: str
    system: str
    models: tuple[str, ...]
    batch: int = 1
    steps: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """As printed."""
        batch = f" x {self.batch}" if self.batch > 1 else ""
        return f"{self.task} {self.system}{batch}"


_SHARED = ("mace", "nequip", "so3krates", "schnet")
_FAST = ("so3krates-compressed", "schnet-compressed")
_BOTH = ("so3krates", "so3krates-compressed")
_PEERS = ("so3lr", "visnet")
_OTHERS = ("painn", "leignn", "alphanet", "equiformer_v2")
#: Rows by suite.
SUITES: Mapping[str, tuple[Row, ...]] = {
    "essential": (
        Row("forces", "bpa27", _SHARED + _FAST + _PEERS),
        Row("training", "bpa27", _SHARED, batch=5, steps=2),
        Row("md", "bpa27", ("mace", "so3krates", "schnet", *_PEERS), steps=20),
        Row("forces", "water192", _SHARED + _FAST + _PEERS),
        Row("md", "water192", ("mace", "so3krates", "schnet", *_PEERS), steps=5),
        Row("forces", "cu500", _SHARED),
    ),
    "architectures": (
        Row("forces", "bpa27", (*_SHARED, *_OTHERS)),
        Row("forces", "water192", (*_SHARED, *_OTHERS)),
        Row("training", "bpa27", (*_SHARED, *_OTHERS), batch=5),
    ),
    "size": (
        *(Row("forces", f"molecule{n}", _SHARED) for n in (9, 21, 42, 120, 370)),
        *(Row("forces", f"water{n}", _SHARED) for n in (192, 648, 1536, 5184, 20577)),
        *(Row("forces", f"cu{n}", _SHARED) for n in (500, 2048, 5324)),
    ),
    "growth": (
        *(
            Row("forces", "bpa27", ("mace", "so3krates", "schnet"), batch=n, note="batch")
            for n in (1, 4, 16, 64)
        ),
        Row("forces", "water192", ("mace-l1", "mace-l2", "mace", "mace-l4"), note="degree"),
        Row("forces", "water192", ("so3krates-l1", "so3krates-l2", "so3krates"), note="degree"),
        Row(
            "forces",
            "water192",
            ("so3krates-r3", "so3krates-r4", "so3krates", "so3krates-r6"),
            note="neighbours",
        ),
    ),
    "accelerator": (
        Row("md", "molecule42", _BOTH, steps=200, note="SO3krates: 2.2 ms, A100"),
        Row("md", "molecule370", _BOTH, steps=100, note="SO3krates: 14 to 15 ms, A100"),
        Row("md", "molecule138", ("mace-L3",), steps=100, note="mlip: 2.4 ms, H100"),
        Row("md", "molecule1205", ("mace-L3",), steps=20, note="mlip: 19.2 ms, H100"),
        Row("training", "molecule166", ("so3krates",), steps=5, note="SO3krates: 8 ms, A100"),
    ),
    "papers": (
        *(
            Row(
                "md", f"molecule{n}", ("so3krates", "nequip"), steps=steps, note="SO3krates, fig. 4"
            )
            for n, steps in ((21, 20), (42, 20), (120, 5), (370, 2))
        ),
        Row("md", "li3po4", ("so3krates",), steps=20, note="SO3krates: 23.6 us/step/atom, V100"),
        Row("training", "molecule166", ("so3krates",), steps=5, note="SO3krates: 8 ms, A100"),
        Row(
            "forces",
            "bpa27",
            ("mace256-L0", "mace256-L1", "mace256-L2"),
            note="MACE: 10.5 / 17.5 / 24.3 ms, A100",
        ),
        Row(
            "forces",
            "cu108",
            ("equiformer_v2",),
            note="EquiformerV2, structures/s",
        ),
        *(
            Row("forces", f"cu{n}", ("alphanet",), batch=10, note="AlphaNet, fig. 4")
            for n in (4, 32, 108)
        ),
        Row("forces", "water192", ("leignn", "painn", "mace", "nequip"), note="LEIGNN, fig. 4"),
        Row(
            "training",
            "water192",
            ("leignn", "painn", "mace", "nequip"),
            note="LEIGNN, fig. 4",
        ),
    ),
}
