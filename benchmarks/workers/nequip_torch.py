"""nequip under test: energy and forces, a training step."""

import sys
from importlib.metadata import version
from typing import Any

import ase.data
import torch
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.data.ase import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state
from serve import Call, serve

Model = torch.nn.Module


def _model(case: dict[str, Any]) -> Model:
    given = case["settings"]
    return NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        r_max=given["cutoff"],
        type_names=[ase.data.chemical_symbols[z] for z in case["elements"]],
        num_layers=given["num_layers"],
        l_max=given["max_degree"],
        parity=given["both_parities"],
        num_features=given["num_channels"],
        radial_mlp_depth=2,
        radial_mlp_width=64,
        avg_num_neighbors=given["avg_num_neighbors"],
    )


def _batch(case: dict[str, Any]) -> Any:
    symbols = [ase.data.chemical_symbols[z] for z in case["elements"]]
    transforms = (
        ChemicalSpeciesToAtomTypeMapper(model_type_names=symbols),
        NeighborListTransform(r_max=case["settings"]["cutoff"]),
    )
    frames = []
    for s in case["structures"]:
        atoms = Atoms(s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        frame = from_ase(atoms)
        for transform in transforms:
            frame = transform(frame)
        frames.append(frame)
    return AtomicDataDict.batched_from_list(frames)


def _facts(model: Model, batch: Any) -> dict[str, Any]:
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "edges": int(batch[AtomicDataDict.EDGE_INDEX_KEY].shape[1]),
    }


def forces(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Energy and forces of a batch whose neighbour lists are at hand."""
    model, batch = _model(case).eval(), _batch(case)

    def call() -> int:
        model(dict(batch))
        return 1

    return call, _facts(model, batch)


def training(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Steps of Adam on the mean squared errors of energies and forces."""
    model, batch = _model(case).train(), _batch(case)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, amsgrad=True)

    def call() -> int:
        for _ in range(case["steps"]):
            optimizer.zero_grad()
            out = model(dict(batch))
            energy, force = (
                out[AtomicDataDict.TOTAL_ENERGY_KEY],
                out[AtomicDataDict.FORCE_KEY],
            )
            error = (energy**2).mean() + 100 * (force**2).mean()
            error.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        return case["steps"]

    return call, _facts(model, batch)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("nequip", "torch", "e3nn", "numpy")}


if __name__ == "__main__":
    set_global_state()
    torch.set_num_threads(int(sys.argv[1]))
    serve({"forces": forces, "training": training}, _versions)
