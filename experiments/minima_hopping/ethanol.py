"""Conformers of the built-in ethanol by minima hopping, and the throughput with many walkers.

    python ethanol.py conformers MODEL --folder FOLDER
    python ethanol.py throughput MODEL --folder FOLDER

Every conformer is checked to be a minimum by its harmonic frequencies.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import mlffjax  # noqa: E402
from mlffjax.config.explore import HoppingSettings, RelaxSettings  # noqa: E402
from mlffjax.data import Frame  # noqa: E402
from mlffjax.explore.coordinates import dihedral_angles  # noqa: E402
from mlffjax.explore.minima_hopping import hop  # noqa: E402
from mlffjax.explore.vibrations import vibrations  # noqa: E402
from mlffjax.potential import Potential  # noqa: E402

RESULTS = Path(__file__).parent / "results"
#: Of 10,000 visited minima of a peptide: Frank et al., Nat. Commun. 15, 6539 (2024), section II.G.
PAPER_FORCE_CALLS = 30e6


def start() -> Frame:
    """The first ethanol of the built-in data."""
    return next(f for f in mlffjax.load_builtin("ethanol") if len(f.numbers) == 9)


def rotor(frame: Frame) -> list[int]:
    """The atoms C, C, O, H of the hydroxyl rotor."""
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1)
    (oxygen,) = np.flatnonzero(frame.numbers == 8)
    first, second = sorted(np.flatnonzero(frame.numbers == 6), key=lambda c: distances[oxygen, c])
    hydrogens = np.flatnonzero(frame.numbers == 1)
    hydrogen = hydrogens[np.argmin(distances[oxygen, hydrogens])]
    return [int(second), int(first), int(oxygen), int(hydrogen)]


def conformers(potential: Potential, folder: Path) -> dict:
    """Search; then frequencies of every minimum in double precision."""
    settings = HoppingSettings(
        walkers=8,
        steps=120,
        mdmin=0,
        md_steps=200,
        permutations=True,
        mirror=True,
        keep_bonds=True,
        relax=RelaxSettings(fmax=1e-4, steps=3000),
    )
    frame = start()
    result = hop(potential, frame, settings, folder=folder)
    precise = potential.astype("float64")
    rows = []
    for minimum in sorted(result.minima, key=lambda m: m.energy):
        found = replace(frame, positions=minimum.positions)
        modes = vibrations(precise, found)
        angle = dihedral_angles(minimum.positions, rotor(found))
        rows.append(
            {
                "energy_over_lowest_meV": 1000 * (minimum.energy - result.lowest.energy),
                "visits": result.visits[minimum.index],
                "CCOH_degrees": float(angle),
                "imaginary": modes.num_imaginary(),
                "is_minimum": bool(modes.is_minimum()),
                "lowest_frequency_per_cm": float(np.sort(modes.frequencies)[0].real),
                "zero_point_energy_eV": float(modes.zero_point_energy),
            }
        )
    status = [escape.status for escape in result.escapes]
    return {
        "escapes": len(result.escapes),
        "force_calls": result.force_calls,
        "outcomes": {name: status.count(name) for name in sorted(set(status))},
        "minima": rows,
    }


def throughput(potential: Potential, folder: Path, rounds: int = 2) -> dict:
    """Force calls and minima with 1, 8 and 32 walkers, in turns: by the clock, and by the
    processor time, which other work on the machine hardly changes."""
    measured: dict[int, list[tuple[float, float, float]]] = {1: [], 8: [], 32: []}
    for turn in range(rounds + 1):
        for walkers, values in measured.items():
            settings = HoppingSettings(
                walkers=walkers,
                steps=max(4, 2 * walkers),
                seed=turn,
                mdmin=0,
                md_steps=200,
                permutations=True,
                relax=RelaxSettings(fmax=1e-3, steps=1000),
            )
            clock, processor = time.perf_counter(), time.process_time()
            result = hop(potential, start(), settings, folder=folder / f"{walkers}-{turn}")
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            if turn:  # the first compiles
                found = sum(escape.target is not None for escape in result.escapes)
                values.append(
                    (result.force_calls / clock, result.force_calls / processor, found / processor)
                )
    rows = []
    for walkers, values in measured.items():
        by_clock, by_processor, minima = np.median(np.array(values), axis=0)
        rows.append(
            {
                "walkers": walkers,
                "force_calls_per_second": float(by_clock),
                "force_calls_per_processor_second": float(by_processor),
                "minima_per_processor_hour": 3600 * float(minima),
                "processor_days_for_30_million_calls": PAPER_FORCE_CALLS / by_processor / 86400,
            }
        )
    return {"rounds": rounds, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("conformers", "throughput"))
    parser.add_argument("model", help="potential of ethanol")
    parser.add_argument("--folder", type=Path, required=True, help="of the search")
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the results")
    args = parser.parse_args()
    potential = mlffjax.load(args.model)
    run = conformers if args.what == "conformers" else throughput
    result = run(potential, args.folder)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"ethanol_{args.what}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
