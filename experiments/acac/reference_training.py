"""mace-torch trained from its own initial weights as ``learning.py`` trains MACE here.

Runs where mace-torch is installed, without mlffjax, after ``learning.py setup``::

    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python reference_training.py FOLDER train_300K.xyz

reads ``FOLDER/setup.npz``, writes ``FOLDER/initial.model`` (the pickled model before the first
step) and ``FOLDER/mace_torch.json``, the errors on the validation frames by step.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import ase.io
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from e3nn import o3  # pyright: ignore[reportMissingImports]
from mace import data, modules  # pyright: ignore
from mace.tools import torch_geometric, utils  # pyright: ignore
from torch_ema import ExponentialMovingAverage  # pyright: ignore[reportMissingImports]

WIDTH = {"hidden": "32x0e+32x1o", "max_ell": 3, "correlation": 3}


def build(setup: dict) -> torch.nn.Module:
    """ScaleShiftMACE with the random weights of mace-torch."""
    torch.manual_seed(0)
    blocks = modules.interaction_classes
    return modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=WIDTH["max_ell"],
        interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(setup["elements"]),
        hidden_irreps=o3.Irreps(WIDTH["hidden"]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(setup["elements"])),
        avg_num_neighbors=float(setup["avg_num_neighbors"]),
        atomic_numbers=setup["elements"].tolist(),
        correlation=WIDTH["correlation"],
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=float(setup["scale"]),
        atomic_inter_shift=float(setup["shift"]),
    )


def graphs(frames: list, setup: dict) -> list:
    """Graphs whose energy is that less the element energies, subtracted in double precision."""
    table = utils.AtomicNumberTable(setup["elements"].tolist())
    baseline = dict(zip(setup["elements"].tolist(), setup["baseline"].tolist(), strict=True))
    result = []
    for atoms in frames:
        energy = atoms.get_potential_energy() - sum(baseline[z] for z in atoms.numbers)
        forces = atoms.get_forces()
        atoms.set_cell(None)
        graph = data.AtomicData.from_config(
            data.config_from_atoms(atoms), z_table=table, cutoff=5.0
        )
        graph.energy = torch.tensor(energy, dtype=torch.get_default_dtype())
        graph.forces = torch.as_tensor(forces, dtype=torch.get_default_dtype())
        result.append(graph)
    return result


def collate(chosen: list) -> dict:
    return next(iter(torch_geometric.dataloader.DataLoader(chosen, len(chosen)))).to_dict()


def validate(model: torch.nn.Module, batch: dict) -> dict[str, float]:
    """RMSE of energies in meV per atom and of force components in meV/Angstrom."""
    out = model(batch, compute_force=True)
    atoms = len(batch["forces"]) / len(batch["energy"])
    error = {"energy": (out["energy"] - batch["energy"]) / atoms,
             "forces": out["forces"] - batch["forces"]}  # fmt: skip
    return {
        f"{key}_rmse": 1e3 * float(e.detach().double().square().mean().sqrt())
        for key, e in error.items()
    }


def train(setup: dict, path: Path, folder: Path) -> dict[str, list[float]]:
    """AMSGrad, clipping and moving average of mace-torch; the loss of the paper's eq. 15."""
    frames = ase.io.read(path, ":")
    train_set = graphs([frames[i] for i in setup["train"]], setup)
    valid = collate(graphs([frames[i] for i in setup["valid"]], setup))
    model = build(setup)
    torch.save(copy.deepcopy(model), folder / "initial.model")
    optimizer = torch.optim.Adam(model.parameters(), lr=float(setup["learning_rate"]), amsgrad=True)
    ema = ExponentialMovingAverage(model.parameters(), decay=float(setup["ema"]))
    result: dict[str, list[float]] = {"step": [], "energy_rmse": [], "forces_rmse": []}
    result["seconds"] = []
    started = time.process_time()
    for step, rows in enumerate(setup["order"], 1):
        batch = collate([train_set[i] for i in rows])
        optimizer.zero_grad()
        out = model(batch, training=True, compute_force=True)
        energy = (out["energy"] - batch["energy"]).square().mean()
        forces = (out["forces"] - batch["forces"]).square().mean()
        (energy + 1000 * forces).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        ema.update()
        if step % 100 == 0:
            with ema.average_parameters():
                errors = validate(model, valid)
            result["step"].append(step)
            for key, value in errors.items():
                result[key].append(value)
            result["seconds"].append(time.process_time() - started)
            (folder / "mace_torch.json").write_text(json.dumps(result))
            print(step, errors, f"{result['seconds'][-1]:.0f} s", flush=True)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with setup.npz")
    parser.add_argument("data", type=Path, help="the frames that setup was given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    with np.load(args.folder / "setup.npz") as archive:
        train(dict(archive), args.data, args.folder)
