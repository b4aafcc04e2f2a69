"""mlffjax beside mace-torch: the checkpoints that ``reference.py`` has written.

    python experiments/mace/parity.py FOLDER

prints for each model how far energies are apart in eV, and forces and stresses relative to the
largest of their kind. Both compute in double precision, except for models stored in float32,
with which mace-torch computes in float32.
"""

import argparse
import gzip
import tempfile
from pathlib import Path

import jax
import numpy as np

from mlffjax.interop import from_checkpoint
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

jax.config.update("jax_enable_x64", True)


def deviations(folder: Path, name: str) -> tuple[int, int, dict[str, float]]:
    """Parameters here and there, and relative deviations."""
    data = np.load(folder / f"{name}.npz")
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(gzip.decompress((folder / f"{name}.model.gz").read_bytes()))
        file.flush()
        potential = from_checkpoint("mace", file.name, dtype="float64")
    worst = {"energy": 0.0, "forces": 0.0, "stress": 0.0}
    for system in ("molecule", "crystal"):
        get = {k.partition("/")[2]: data[k] for k in data.files if k.startswith(system)}
        graph = atom_graph(
            get["numbers"], get["positions"], get["cell"], get["pbc"], potential.cutoff, np.float64
        )
        result = jax.jit(Potential.energy_forces_stress)(potential, graph)
        got = {
            "energy": result.energy + potential.baseline_energy(get["numbers"]),
            "forces": result.forces,
            "stress": result.stress,
        }
        for key in worst if system == "crystal" else ("energy", "forces"):
            error = np.abs(got[key] - get[key]).max()
            scale = 1 if key == "energy" else np.abs(get[key]).max()
            worst[key] = max(worst[key], float(error / scale))
    return potential.num_parameters, int(data["num_parameters"]), worst


def main(folder: Path) -> None:
    """Print one line a model.

    Raises:
      SystemExit: no checkpoint there.
    """
    paths = sorted(folder.glob("*.model.gz"))
    if not paths:
        raise SystemExit(f"got no NAME.model.gz in {folder}; write them with reference.py")
    print("| model | parameters here / mace-torch | energy, eV | forces | stress |")
    print("|---|---|---|---|---|")
    for path in paths:
        name = path.name.removesuffix(".model.gz")
        ours, theirs, worst = deviations(folder, name)
        row = " | ".join(f"{value:.1e}" for value in worst.values())
        print(f"| `{name}` | {ours:,} / {theirs:,} | {row} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what reference.py has written")
    main(parser.parse_args().folder)
