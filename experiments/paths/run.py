"""Paths, scans and vibrations against ASE with the same potential: numbers and figures.

    python experiments/paths/run.py --model runs/ethanol --out experiments/paths/results

``--model`` is a potential trained on the built-in ethanol (see README.md); silicon and graphene
need none. Everything is in float64.
"""

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
from ase.constraints import FixInternals
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Vibrations as AseVibrations
from scipy.optimize import linear_sum_assignment

import mlffjax
from mlffjax import plots
from mlffjax.config.explore import RelaxSettings
from mlffjax.config.paths import NEBSettings
from mlffjax.data import Frame, load_builtin
from mlffjax.exploration import write_bands, write_neb, write_vibrations
from mlffjax.explore.coordinates import dihedral, shift
from mlffjax.explore.neb import interpolate, nudged_elastic_band
from mlffjax.explore.phonons import force_constants
from mlffjax.explore.relax import relax
from mlffjax.explore.scan import relaxed_scan, rigid_scan
from mlffjax.explore.vibrations import vibrations
from mlffjax.md.stillinger_weber import DIAMOND, LATTICE_CONSTANT
from mlffjax.pair_potentials import lennard_jones
from mlffjax.potential import Potential
from mlffjax.stillinger_weber_model import stillinger_weber

HYDROXYL = (0, 1, 2, 3)  # C-C-O-H of the built-in ethanol
METHYL = (2, 1, 0, 6)  # O-C-C-H
TIGHT = RelaxSettings(fmax=1e-4)


def as_atoms(frame: Frame, potential: Potential) -> ase.Atoms:
    """Atoms with the calculator of the potential."""
    atoms = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = mlffjax.MLFFCalculator(potential)
    return atoms


def ase_neb(potential: Potential, start: Frame, end: Frame, settings: NEBSettings) -> dict:
    """The band of ASE (FIRE) from the same first path, one force call after the other."""
    path = interpolate(start, end, settings.images, settings.interpolation)
    images = [as_atoms(replace(start, positions=x), potential) for x in path]
    for image in images[1:]:
        image.calc = images[0].calc
    begin = time.perf_counter()
    options = {"k": settings.spring, "method": "improvedtangent", "allow_shared_calculator": True}
    steps = 0
    for climb in (False, True):
        optimizer = FIRE(NEB(images, climb=climb, **options), logfile=None)
        optimizer.run(fmax=settings.fmax if climb else settings.climb_below, steps=settings.steps)
        steps += optimizer.get_number_of_steps()
    energies = np.array([image.get_potential_energy() for image in images])
    lengths = [np.linalg.norm(b.positions - a.positions) for a, b in itertools.pairwise(images)]
    return {
        "barrier_eV": float(energies.max() - energies[0]),
        "steps": steps,
        "seconds": time.perf_counter() - begin,
        "lengths": np.concatenate([[0], np.cumsum(lengths)]),
        "energies": energies - energies[0],
    }


def compare_neb(
    name: str, out: Path, potential: Potential, start: Frame, end: Frame, settings: NEBSettings
) -> dict:
    """One band by the package and by ASE: numbers, and a figure with both."""
    begin = time.perf_counter()
    result = nudged_elastic_band(potential, start, end, settings)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    nudged_elastic_band(potential, start, end, settings)
    second = time.perf_counter() - begin
    reference = ase_neb(potential, start, end, settings)
    write_neb(out / name, result, settings)
    plots.reaction_path(
        out / f"{name}.png",
        result.lengths,
        result.energies - result.energies[0],
        result.profile(),
        reference=(reference["lengths"], reference["energies"]),
        reference_label="ASE",
    )
    saddle = vibrations(potential, result.frames[result.saddle])
    row = {
        "status": result.status,
        "barrier_eV": result.barrier,
        "ase_barrier_eV": reference["barrier_eV"],
        "steps": result.steps,
        "ase_steps": reference["steps"],
        "seconds_with_compilation": first,
        "seconds": second,
        "ase_seconds": reference["seconds"],
        "imaginary_at_the_highest_image": saddle.num_imaginary(soft=30.0),
        "lowest_frequency_per_cm": float(saddle.frequencies[0]),
        "start_is_minimum": vibrations(potential, start).is_minimum(),
        "warnings": list(result.warnings),
    }
    print(name, json.dumps(row, indent=1), flush=True)
    return row


def conformers(potential: Potential) -> dict[str, Frame]:
    """Trans and gauche ethanol, and trans with its methyl group turned by a third."""
    frame = load_builtin("ethanol")[3]
    turn = dihedral(frame, HYDROXYL)
    guesses = [replace(frame, positions=turn.place(frame.positions, a)) for a in (180.0, 60.0, -60)]
    trans, gauche, other = (r.frame for r in relax(potential, guesses, TIGHT))
    methyl = dihedral(trans, METHYL)
    here = float(methyl.value(jnp.asarray(trans.positions)))
    rotated = replace(trans, positions=methyl.place(trans.positions, here + 120.0))
    (rotated,) = relax(potential, [rotated], TIGHT)
    return {"trans": trans, "gauche": gauche, "other gauche": other, "rotated": rotated.frame}


def frequencies(potential: Potential, frame: Frame, out: Path) -> dict:
    """Frequencies by differentiation and by ASE's finite differences."""
    begin = time.perf_counter()
    result = vibrations(potential, frame)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    vibrations(potential, frame)
    second = time.perf_counter() - begin
    summary = write_vibrations(out / "vibrations", result)
    row = {
        "frequencies_per_cm": summary["frequencies_per_cm"],
        "zero_point_energy_eV": summary["zero_point_energy_eV"],
        "is_minimum": summary["is_minimum"],
        "seconds_with_compilation": first,
        "seconds": second,
    }
    for delta in (0.01, 0.001):
        atoms = as_atoms(frame, potential)
        begin = time.perf_counter()
        reference = AseVibrations(atoms, name=str(out / f"ase-{delta}"), delta=delta)
        reference.run()
        row[f"ase_seconds_{delta}"] = time.perf_counter() - begin
        theirs = reference.get_vibrations().get_frequencies().real[6:]
        row[f"largest_difference_{delta}"] = float(np.abs(theirs - result.frequencies).max())
        reference.clean()
        (out / f"ase-{delta}").rmdir()
    print("frequencies", json.dumps(row, indent=1), flush=True)
    return row


def rotor_scans(potential: Potential, frame: Frame, out: Path) -> dict:
    """The hydroxyl rotor, rigid and relaxed, and relaxed by ASE at every third angle."""
    turn = dihedral(frame, HYDROXYL)
    angles = np.linspace(-180, 180, 37)
    settings = RelaxSettings(fmax=0.01)
    rigid = rigid_scan(potential, frame, [turn], [angles])
    begin = time.perf_counter()
    relaxed = relaxed_scan(potential, frame, [turn], [angles], settings)
    seconds = time.perf_counter() - begin
    theirs = np.full(len(angles), np.nan)
    begin = time.perf_counter()
    for k in range(0, len(angles), 3):
        atoms = as_atoms(
            replace(frame, positions=turn.place(frame.positions, angles[k])), potential
        )
        if k == 0:
            rigid_ase = atoms.get_potential_energy()
        atoms.set_constraint(FixInternals(dihedrals_deg=[[angles[k] % 360, list(HYDROXYL)]]))
        BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
        theirs[k] = atoms.get_potential_energy()
    ase_seconds = time.perf_counter() - begin
    plots.scan_line(
        out / "rotor_scan.png",
        angles,
        {"relaxed": relaxed.energies, "rigid": rigid.energies, "relaxed by ASE": theirs},
        "C-C-O-H (°)",
    )
    row = {
        "relaxed_span_eV": float(np.ptp(relaxed.energies)),
        "rigid_span_eV": float(np.ptp(rigid.energies)),
        "converged": int(relaxed.converged.sum()),
        "largest_difference_from_ase_eV": float(np.nanmax(np.abs(theirs - relaxed.energies))),
        "rigid_difference_from_ase_eV": abs(float(rigid_ase - rigid.energies[0])),
        "force_calls": relaxed.force_calls,
        "seconds_with_compilation_37_points": seconds,
        "ase_seconds_13_points": ase_seconds,
    }
    print("rotor", json.dumps(row, indent=1), flush=True)
    return row


def rotor_map(potential: Potential, frame: Frame, out: Path) -> dict:
    """Both rotors of ethanol at once, relaxed."""
    turns = [dihedral(frame, HYDROXYL), dihedral(frame, METHYL)]
    grid = [np.linspace(-180, 180, 19), np.linspace(0, 120, 9)]
    begin = time.perf_counter()
    found = relaxed_scan(potential, frame, turns, grid, RelaxSettings(fmax=0.02, batch_size=171))
    plots.scan_map(out / "rotor_map.png", *grid, found.energies, ("C-C-O-H (°)", "O-C-C-H (°)"))
    row = {
        "points": int(found.energies.size),
        "converged": int(found.converged.sum()),
        "span_eV": float(np.ptp(found.energies)),
        "force_calls": found.force_calls,
        "seconds_with_compilation": time.perf_counter() - begin,
    }
    print("map", json.dumps(row, indent=1), flush=True)
    return row


def vacancy(potential: Potential) -> tuple[Frame, Frame]:
    """A vacancy in 64 sites of silicon, and the same after a neighbour has jumped into it.

    The four neighbours of the vacant site are first drawn inwards: where they were, no bond and
    no angle that is left is strained, which is a minimum too, but 1.5 eV higher. Inversion
    through the middle of the bond maps one vacancy onto the other.
    """
    steps = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (steps + DIAMOND).reshape(-1, 3) * LATTICE_CONSTANT
    cell = 2 * LATTICE_CONSTANT * np.eye(3)
    hopper = int(np.argmin(np.linalg.norm(sites[1:], axis=1)))  # nearest to the vacant first site
    middle = sites[hopper + 1] / 2
    around = sites[1:] - np.round(sites[1:] / cell[0, 0]) * cell[0, 0]
    near = np.linalg.norm(around, axis=1) < 2.5
    rattled = sites[1:] + np.random.default_rng(0).normal(0, 0.05, (63, 3))
    rattled[near] -= 0.25 * around[near]
    frame = Frame(np.full(63, 14, np.int32), rattled, cell, np.ones(3, bool))
    (first,) = relax(potential, [frame], RelaxSettings(fmax=1e-4))
    start = first.frame
    inverted = 2 * middle - start.positions
    arms = inverted[None] - start.positions[:, None]
    arms -= np.round(arms / cell[0, 0]) * cell[0, 0]
    distances = np.linalg.norm(arms, axis=-1)
    distances[hopper], distances[:, hopper] = 1e3, 1e3
    distances[hopper, hopper] = 0.0
    rows, columns = linear_sum_assignment(distances)
    return start, replace(start, positions=start.positions + arms[rows, columns])


def sliding(out: Path) -> dict:
    """Bilayer graphene with the Lennard-Jones potential between its layers.

    Girifalco, Hodak and Lee, Phys. Rev. B 62, 13104 (2000): attractive constant 15.2 eV A^6,
    repulsive 24.1e3 eV A^12. The layers are rigid, so that the same potential between atoms of
    one layer is a constant.
    """
    attraction, repulsion = 15.2, 24.1e3
    potential = lennard_jones(
        6,
        depth=attraction**2 / (4 * repulsion),
        diameter=(repulsion / attraction) ** (1 / 6),
        cutoff=14.0,
        dtype=np.float64,
    )
    bond = 1.42
    layer = bond * np.array([[0.0, 0, 0], [0, 1, 0], [3**0.5 / 2, 1.5, 0], [3**0.5 / 2, 2.5, 0]])
    cell = np.diag([3**0.5 * bond, 3 * bond, 30.0])
    positions = np.concatenate([layer, layer + np.array([0, 0, 3.35])])
    frame = Frame(np.full(8, 6, np.int32), positions, cell, np.array([True, True, False]))
    upper = range(4, 8)
    slides = [shift(frame, upper, (1, 0, 0)), shift(frame, upper, (0, 1, 0))]
    grid = [np.linspace(0, cell[0, 0], 25), np.linspace(0, cell[1, 1], 43)]
    begin = time.perf_counter()
    found = rigid_scan(potential, frame, slides, grid, batch_size=128)
    seconds = time.perf_counter() - begin
    heights = 1000 * (found.energies - found.energies.min()) / 8
    at = rigid_scan(potential, frame, slides, [[0.0], [0.0, bond, 1.5 * bond, 2 * bond]])
    named = 1000 * (at.energies[0] - found.energies.min()) / 8
    moved = replace(frame, positions=slides[1].place(frame.positions, bond))
    difference = as_atoms(moved, potential).get_potential_energy() - at.energies[0, 1]
    plots.scan_map(
        out / "sliding.png",
        grid[1],
        grid[0],
        found.energies.T / 8,
        ("shift along armchair (Å)", "shift along zigzag (Å)"),
    )
    row = {
        "points": int(found.energies.size),
        "seconds_with_compilation": seconds,
        "highest_meV_per_atom": float(heights.max()),
        "AA_AB_saddle_BA_meV_per_atom": [float(x) for x in named],
        "difference_from_ase_eV": float(difference),
    }
    print("sliding", json.dumps(row, indent=1), flush=True)
    return row


def bands(potential: Potential, out: Path) -> dict:
    """Phonon bands of silicon from 4 x 4 x 4 primitive cells."""
    bulk = ase.build.bulk("Si", a=LATTICE_CONSTANT)
    frame = Frame(
        np.asarray(bulk.numbers, np.int32), bulk.positions, bulk.cell.array, np.ones(3, bool)
    )
    begin = time.perf_counter()
    constants = force_constants(potential, frame, (4, 4, 4))
    seconds = time.perf_counter() - begin
    found = write_bands(out / "silicon_phonons", constants)
    row = {
        "highest_per_cm": float(found.max()),
        "lowest_per_cm": float(found.min()),
        "seconds_with_compilation": seconds,
    }
    print("bands", json.dumps(row, indent=1), flush=True)
    return row


PARTS = ("graphene", "silicon", "frequencies", "paths", "scans")


def ethanol(potential: Potential, wanted: list[str], out: Path) -> dict:
    """The parts on ethanol."""
    found = conformers(potential)
    trans = found["trans"]
    energies = {name: (f.energy or 0) - (trans.energy or 0) for name, f in found.items()}
    print("conformers", energies, flush=True)
    results: dict = {"conformers_eV": energies}
    if "frequencies" in wanted:
        results["frequencies"] = frequencies(potential, trans, out)
    if "paths" in wanted:
        settings = NEBSettings(images=7, fmax=0.01, spring=0.1)
        for name, start, end in (
            ("trans_gauche", "trans", "gauche"),
            ("gauche_gauche", "gauche", "other gauche"),
            ("methyl", "trans", "rotated"),
        ):
            results[name] = compare_neb(name, out, potential, found[start], found[end], settings)
    if "scans" in wanted:
        results["rotor scan"] = rotor_scans(potential, trans, out)
        results["rotor map"] = rotor_map(potential, trans, out)
    return results


def main() -> None:
    """Run the parts that are asked for and add their numbers to results.json."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="potential of ethanol")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if "graphene" in args.only:
        results["sliding"] = sliding(out)
    if "silicon" in args.only:
        silicon = stillinger_weber(dtype=np.float64)
        results["silicon bands"] = bands(silicon, out)
        # A straight line is good enough here.
        settings = NEBSettings(images=7, fmax=0.01, interpolation="linear")
        results["silicon vacancy"] = compare_neb(
            "silicon_vacancy", out, silicon, *vacancy(silicon), settings
        )
    if set(args.only) & {"frequencies", "paths", "scans"}:
        if args.model is None:
            parser.error("ethanol needs --model")
        potential = mlffjax.load(args.model).astype(np.float64)
        results |= ethanol(potential, args.only, out)
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
