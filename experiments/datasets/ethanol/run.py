"""Make the built-in ethanol data set: frames sampled at 500 K, labelled with DFT.

    python run.py sample            # GFN2-xTB Langevin dynamics, minutes
    python run.py label             # PBE/def2-SVP energy and gradient, hours on one core
    python run.py check             # forces against finite differences of the DFT energy
    python run.py collect OUT.extxyz

``label`` can be stopped at any moment and started again: each frame is one line of an
append-only file, and a torn last line is dropped. Several workers share the frames
(``--worker K --workers N``). Needs ase, tblite and pyscf.
"""

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import BFGS

# CODATA 2018, the values PySCF and ASE both carry.
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Angstrom

TEMPERATURE = 500.0  # K, the temperature of MD17
TIMESTEP = 0.5  # fs
STRIDE = 160  # steps between frames: 80 fs, several periods of the stretches
TRAJECTORIES = 4
FRAMES_EACH = 375
EQUILIBRATION = 4000  # steps: 2 ps

XC = "PBE"
BASIS = "def2-svp"
GRID_LEVEL = 2  # PySCF's grid; the gradient includes its response, so it is exact for this grid
CONV_TOL = 1e-9  # Hartree
ISOLATED_SPIN = {"H": 1, "C": 2, "O": 2}  # unpaired electrons of the ground states


def sample(folder: Path) -> None:
    """Write ``frames.extxyz``: Langevin dynamics with GFN2-xTB from four seeds."""
    from tblite.ase import TBLite

    target = folder / "frames.extxyz"
    if target.exists():
        raise SystemExit(f"{target} exists; remove it to sample anew")
    frames = []
    for seed in range(TRAJECTORIES):
        atoms = molecule("CH3CH2OH")
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        BFGS(atoms, logfile=None).run(fmax=0.01)
        rng = np.random.default_rng(seed)
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * TEMPERATURE, rng=rng)
        Stationary(atoms)
        dynamics = Langevin(
            atoms,
            TIMESTEP * units.fs,
            temperature_K=TEMPERATURE,
            friction=0.01 / units.fs,
            rng=rng,
            # ASE's other choice scales the noise up for a fixed centre of mass and heats nine
            # atoms far above the thermostat; the translation is removed from each frame below.
            fixcm=False,
        )
        dynamics.run(EQUILIBRATION)
        for k in range(FRAMES_EACH):
            dynamics.run(STRIDE)
            frame = atoms.copy()
            frame.positions -= frame.get_center_of_mass()
            frame.info = {"trajectory": seed, "step": EQUILIBRATION + (k + 1) * STRIDE}
            frame.set_momenta(np.zeros_like(frame.positions))
            del frame.arrays["momenta"]
            frames.append(frame)
        print(f"trajectory {seed}: {FRAMES_EACH} frames", flush=True)
    partial = target.with_suffix(".partial")
    ase.io.write(partial, frames, format="extxyz")
    os.replace(partial, target)


def mean_field(atoms: ase.Atoms, spin: int = 0):
    """The PySCF Kohn-Sham object of the data set's settings."""
    from pyscf import dft, gto

    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)),
        basis=BASIS,
        spin=spin,
        verbose=0,
    )
    method = (dft.UKS if spin else dft.RKS)(mol, xc=XC).density_fit()
    method.grids.level = GRID_LEVEL
    method.conv_tol = CONV_TOL
    return method


def energy_forces(atoms: ase.Atoms, guess: np.ndarray | None):
    """Energy [eV], forces [atoms, 3] in eV/Angstrom and the density matrix as next guess."""
    method = mean_field(atoms)
    energy = method.kernel(dm0=guess)
    if not method.converged:
        energy = method.newton().kernel(dm0=None)
    if not method.converged:
        raise RuntimeError(f"SCF did not converge for {atoms.info}")
    gradient = method.nuc_grad_method()
    gradient.grid_response = True
    forces = -gradient.kernel() * HARTREE / BOHR
    return energy * HARTREE, forces, method.make_rdm1()


def labelled(folder: Path) -> dict[int, dict]:
    """Frame index -> label, from every worker's file; a torn last line is dropped."""
    labels = {}
    for path in sorted(folder.glob("labels-*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            labels[row["index"]] = row
    return labels


def label(folder: Path, worker: int, workers: int) -> None:
    """Label every ``workers``-th frame; frames with a label are passed over.

    The order is a fixed random one, so that a part of the labels is already a fair sample.
    """
    frames = ase.io.read(folder / "frames.extxyz", ":")
    order = np.random.default_rng(0).permutation(len(frames))
    done = labelled(folder)
    guess = None
    path = folder / f"labels-{worker}.jsonl"
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        path.write_bytes(path.read_bytes() + b"\n")
    with path.open("a") as out:
        for index in order[worker::workers].tolist():
            if index in done:
                continue
            energy, forces, guess = energy_forces(frames[index], guess)
            row = {"index": index, "energy": energy, "forces": forces.tolist()}
            out.write(json.dumps(row) + "\n")
            out.flush()


def check(folder: Path, count: int, step: float = 1e-3) -> None:
    """Print the largest deviation of the forces from central differences of the energy."""
    frames = ase.io.read(folder / "frames.extxyz", ":")
    labels = labelled(folder)
    worst = 0.0
    for index in sorted(labels)[:: max(1, len(labels) // count)][:count]:
        atoms = frames[index]
        _, forces, guess = energy_forces(atoms, None)
        stored = float(np.abs(forces - np.array(labels[index]["forces"])).max())
        numerical = np.zeros_like(forces)
        for i in range(len(atoms)):
            for axis in range(3):
                energies = []
                for sign in (1, -1):
                    moved = atoms.copy()
                    moved.positions[i, axis] += sign * step
                    energies.append(energy_forces(moved, guess)[0])
                numerical[i, axis] = -(energies[0] - energies[1]) / (2 * step)
        error = float(np.abs(numerical - forces).max())
        worst = max(worst, error)
        print(
            f"frame {index}: max |F + dE/dr| {1e3 * error:.4f} meV/A, "
            f"max |F - stored| {1e3 * stored:.4f} meV/A, "
            f"net force {1e3 * np.abs(forces.sum(0)).max():.2e} meV/A",
            flush=True,
        )
    print(f"worst of {count} frames: {1e3 * worst:.4f} meV/A")


def collect(folder: Path, out: Path) -> None:
    """Write isolated atoms and all labelled frames as one extended XYZ file."""
    settings = (
        f"{XC}/{BASIS} density-fitted RKS, PySCF {version('pyscf')}, grid level {GRID_LEVEL} "
        f"with grid response, conv_tol {CONV_TOL:g}; sampled at {TEMPERATURE:g} K with GFN2-xTB, "
        f"tblite {version('tblite')}, ASE {version('ase')}, Python {platform.python_version()}"
    )
    result = []
    for symbol, spin in ISOLATED_SPIN.items():
        atom = ase.Atoms(symbol, positions=[[0.0, 0.0, 0.0]])
        energy = mean_field(atom, spin).kernel() * HARTREE
        atom.info = {"config_type": "IsolatedAtom", "settings": settings}
        atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
        result.append(atom)
    frames = ase.io.read(folder / "frames.extxyz", ":")
    labels = labelled(folder)
    for index in sorted(labels):
        atoms, row = frames[index], labels[index]
        atoms.info["config_type"] = "md"
        atoms.calc = SinglePointCalculator(
            atoms, energy=row["energy"], forces=np.array(row["forces"])
        )
        result.append(atoms)
    ase.io.write(out, result, format="extxyz")
    print(f"{len(labels)} labelled frames of {len(frames)} written to {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["sample", "label", "check", "collect"])
    parser.add_argument("out", nargs="?", type=Path, help="file that collect writes")
    parser.add_argument("--folder", type=Path, default=Path("ethanol-work"))
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--count", type=int, default=4, help="frames that check recomputes")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.stage == "sample":
        sample(args.folder)
    elif args.stage == "label":
        label(args.folder, args.worker, args.workers)
    elif args.stage == "check":
        check(args.folder, args.count)
    else:
        if args.out is None:
            parser.error("collect needs OUT, the file to write")
        collect(args.folder, args.out)


if __name__ == "__main__":
    main()
