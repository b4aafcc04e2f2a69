"""Checkpoints of mace-torch with random parameters, and what mace-torch computes with them.

Runs where mace-torch is installed, without mlffjax::

    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python experiments/mace/reference.py FOLDER [NAME ...]

writes ``FOLDER/NAME.model.gz``, a pickled model, and ``FOLDER/NAME.npz``, its results for two
structures, in eV and Angstrom, and ``FOLDER/pair_functions.npz``. ``parity.py`` compares the
models with mlffjax; ``tests/data/interop`` has some of the files.
"""

import argparse
import gzip
import io
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from ase import Atoms
from ase.build import bulk, molecule
from e3nn import o3  # pyright: ignore[reportMissingImports]
from mace import data, modules  # pyright: ignore
from mace.tools import torch_geometric, utils  # pyright: ignore

ELEMENTS = [1, 6, 8, 14]
E0 = np.array([-1.25, -3.5, -5.75, -2.0])  # small, so that no digits of the rest are lost
SMALL = {
    "kind": "MACE",
    "dtype": torch.float64,
    "first": "RealAgnosticInteractionBlock",
    "rest": "RealAgnosticResidualInteractionBlock",
    "hidden_irreps": "2x0e+2x1o",
    "max_ell": 2,
    "correlation": 2,
    "num_interactions": 2,
    "num_bessel": 4,
    "num_polynomial_cutoff": 5,
    "MLP_irreps": "3x0e",
    "radial_MLP": [5, 5],
    "pair_repulsion": False,
    "distance_transform": "None",
    "r_max": 4.0,
}
RESIDUAL = {"kind": "ScaleShiftMACE", "first": "RealAgnosticResidualInteractionBlock"}
DENSITY = {
    "kind": "ScaleShiftMACE",
    "first": "RealAgnosticDensityInteractionBlock",
    "rest": "RealAgnosticDensityResidualInteractionBlock",
}
FULL = {"max_ell": 3, "correlation": 3, "radial_MLP": [64, 64, 64], "MLP_irreps": "16x0e"}
MODELS = {
    "mace": {},
    "scaleshift_agnesi_zbl": {
        **RESIDUAL, "pair_repulsion": True, "distance_transform": "Agnesi",
        "num_polynomial_cutoff": 6,
    },
    "zbl": {"pair_repulsion": True},
    "agnesi": {"distance_transform": "Agnesi"},
    "density_agnesi_zbl": {**DENSITY, "pair_repulsion": True, "distance_transform": "Agnesi"},
    "density_residual": {
        **DENSITY, "first": "RealAgnosticDensityResidualInteractionBlock", "num_interactions": 3,
    },
    "float32": {**RESIDUAL, "dtype": torch.float32, "pair_repulsion": True,
                "distance_transform": "Agnesi"},
    "three_layers": {**RESIDUAL, "num_interactions": 3, "correlation": 3, "max_ell": 1},
    "invariant": {**RESIDUAL, "hidden_irreps": "4x0e"},
    "degree_2": {"hidden_irreps": "2x0e+2x1o+2x2e"},
    # Hyperparameters of published models, with fewer channels; the names of their files.
    "MACE-MP-0_medium": {
        **RESIDUAL, **FULL, "hidden_irreps": "8x0e+8x1o", "num_bessel": 10, "r_max": 6.0,
        "dtype": torch.float32,
    },
    "MACE-MP-0_large": {
        **RESIDUAL, **FULL, "hidden_irreps": "4x0e+4x1o+4x2e", "num_bessel": 10, "r_max": 6.0,
        "dtype": torch.float32,
    },
    "MACE-MPA-0_medium": {
        **DENSITY, **FULL, "hidden_irreps": "8x0e+8x1o", "num_bessel": 10, "r_max": 6.0,
        "dtype": torch.float32, "pair_repulsion": True, "distance_transform": "Agnesi",
    },
    "MACE-OFF23_medium": {
        **RESIDUAL, **FULL, "hidden_irreps": "8x0e+8x1o", "num_bessel": 8, "r_max": 5.0,
    },
}  # fmt: skip


def build(settings: dict) -> torch.nn.Module:
    """A model with random parameters."""
    torch.set_default_dtype(settings["dtype"])
    blocks = modules.interaction_classes
    arguments = {
        "r_max": settings["r_max"],
        "num_bessel": settings["num_bessel"],
        "num_polynomial_cutoff": settings["num_polynomial_cutoff"],
        "max_ell": settings["max_ell"],
        "interaction_cls": blocks[settings["rest"]],
        "interaction_cls_first": blocks[settings["first"]],
        "num_interactions": settings["num_interactions"],
        "num_elements": len(ELEMENTS),
        "hidden_irreps": o3.Irreps(settings["hidden_irreps"]),
        "MLP_irreps": o3.Irreps(settings["MLP_irreps"]),
        "atomic_energies": E0,
        "avg_num_neighbors": 9.25,
        "atomic_numbers": ELEMENTS,
        "correlation": settings["correlation"],
        "gate": torch.nn.functional.silu,
        "pair_repulsion": settings["pair_repulsion"],
        "distance_transform": settings["distance_transform"],
        "radial_MLP": settings["radial_MLP"],
    }
    if settings["kind"] == "ScaleShiftMACE":
        return modules.ScaleShiftMACE(atomic_inter_scale=0.75, atomic_inter_shift=-0.2, **arguments)
    return modules.MACE(**arguments)


def structures() -> dict[str, Atoms]:
    """A molecule with a bond short enough for the repulsion, and a crystal of low symmetry."""
    rng = np.random.default_rng(0)
    short = molecule("CH3CH2OH")
    short.rattle(0.05, rng=rng)
    short.set_distance(0, 1, 1.1, fix=0)
    crystal = bulk("Si", "diamond", 5.43)
    crystal.numbers[1] = 6
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), True)
    crystal.rattle(0.1, rng=rng)
    return {"molecule": short, "crystal": crystal}


def results(model: torch.nn.Module, atoms: Atoms, cutoff: float) -> dict[str, np.ndarray]:
    """Structure, energies, forces and stress."""
    config = data.config_from_atoms(atoms)
    table = utils.AtomicNumberTable(ELEMENTS)
    graph = data.AtomicData.from_config(config, z_table=table, cutoff=cutoff)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    out = model(batch.to_dict(), compute_stress=True)
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        **{
            name: out[name].detach().numpy()
            for name in ("energy", "node_energy", "forces", "stress")
        },
    }


def pair_functions() -> dict[str, np.ndarray]:
    """Distance transform and pair repulsion of two atoms, in double precision."""
    torch.set_default_dtype(torch.float64)
    numbers = np.array([[1, 1], [1, 8], [6, 14], [29, 29], [79, 92]])
    distances = np.linspace(0.2, 5.0, 25)
    first, second = (np.repeat(numbers[:, k], len(distances)) for k in (0, 1))
    lengths = np.tile(distances, len(numbers))
    pairs = len(lengths)
    table = torch.arange(1, 119)
    attributes = torch.nn.functional.one_hot(
        torch.as_tensor(np.concatenate([first, second])) - 1, len(table)
    ).double()
    edges = torch.stack([torch.arange(pairs, 2 * pairs), torch.arange(pairs)])
    arguments = (torch.as_tensor(lengths)[:, None], attributes, edges, table)
    return {
        "first": first,
        "second": second,
        "distances": lengths,
        "agnesi": modules.radial.AgnesiTransform()(*arguments)[:, 0].numpy(),
        "zbl": modules.radial.ZBLBasis(p=5)(*arguments)[:pairs].numpy(),
    }


def main(folder: Path, names: list[str]) -> None:
    """Write the models ``names``, by default all."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pair_functions.npz", **pair_functions())  # pyright: ignore
    for name in names or MODELS:
        settings = SMALL | MODELS[name]
        torch.manual_seed(1)
        model = build(settings)
        arrays = {}
        for system, atoms in structures().items():
            found = results(model, atoms, settings["r_max"])
            arrays |= {f"{system}/{key}": value for key, value in found.items()}
        count = sum(p.numel() for p in model.parameters())
        arrays["num_parameters"] = np.array(count)
        np.savez(folder / f"{name}.npz", **arrays)  # pyright: ignore[reportArgumentType]
        buffer = io.BytesIO()
        torch.save(model, buffer)
        (folder / f"{name}.model.gz").write_bytes(gzip.compress(buffer.getvalue(), 9, mtime=0))
        print(name, count, "parameters", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the files, to write")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; all by default")
    args = parser.parse_args()
    main(args.folder, args.names)
