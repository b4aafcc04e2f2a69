"""mace-torch under test: energy and forces, a training step, dynamics with ASE."""

import json
import os
import sys
from functools import cache
from importlib.metadata import version
from typing import Any

# The e3nn that mace-torch pins keeps its constants in a pickle of its own.
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from e3nn import o3
from mace import data, modules
from mace.calculators import MACECalculator
from mace.tools import torch_geometric, utils
from serve import Call, serve

Model = torch.nn.Module


def _irreps(channels: int, degree: int) -> o3.Irreps:
    labels = [f"{channels}x{d}{'e' if d % 2 == 0 else 'o'}" for d in range(degree + 1)]
    return o3.Irreps("+".join(labels))


def _model(case: dict[str, Any]) -> Model:
    return _built(json.dumps(case["settings"]), tuple(case["elements"]))


@cache
def _built(settings: str, elements: tuple[int, ...]) -> Model:
    """A model; kept, because building one takes a while."""
    torch.manual_seed(0)
    given = json.loads(settings)
    residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=given["cutoff"],
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=given["max_degree"],
        interaction_cls=residual,
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=given["num_layers"],
        num_elements=len(elements),
        hidden_irreps=_irreps(given["num_channels"], given["hidden_degree"]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=given["avg_num_neighbors"],
        atomic_numbers=list(elements),
        correlation=given["correlation"],
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def _atoms(case: dict[str, Any]) -> list[Atoms]:
    return [
        Atoms(s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        for s in case["structures"]
    ]


def _batch(case: dict[str, Any]) -> Any:
    table = utils.AtomicNumberTable(case["elements"])
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(a), z_table=table, cutoff=case["settings"]["cutoff"]
        )
        for a in _atoms(case)
    ]
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs))
    return next(iter(loader)).to_dict()


def _facts(model: Model, edges: int | None = None) -> dict[str, Any]:
    return {"parameters": sum(p.numel() for p in model.parameters()), "edges": edges}


def forces(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Energy and forces of a batch whose neighbour lists are at hand."""
    model, batch = _model(case).eval(), _batch(case)

    def call() -> int:
        model(batch, compute_force=True)
        return 1

    return call, _facts(model, batch["edge_index"].shape[1])


def training(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Steps of Adam on the mean squared errors of energies and forces."""
    model, batch = _model(case), _batch(case)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, amsgrad=True)

    def call() -> int:
        for _ in range(case["steps"]):
            optimizer.zero_grad()
            out = model(batch, training=True, compute_force=True)
            error = (out["energy"] ** 2).mean() + 100 * (out["forces"] ** 2).mean()
            error.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        return case["steps"]

    return call, _facts(model, batch["edge_index"].shape[1])


def md(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """NVE dynamics with ASE, steps too short for random forces to matter."""
    model = _model(case)
    (atoms,) = _atoms(case)
    atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float32")
    MaxwellBoltzmannDistribution(atoms, temperature_K=300)
    dynamics = VelocityVerlet(atoms, timestep=1e-3 * units.fs)

    def call() -> int:
        dynamics.run(case["steps"])
        return case["steps"]

    return call, _facts(model)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("mace-torch", "torch", "e3nn", "numpy")}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(int(sys.argv[1]))
    serve({"forces": forces, "training": training, "md": md}, _versions)
