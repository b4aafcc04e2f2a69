"""Time of RDF and ADF of a frame against the number of atoms: neighbour lists and all pairs.

    python experiments/analysis_scaling/run.py

Atoms at random at the density of water, in a periodic cube or, in vacuum, in a ball, float64.
Times are of the processor, all threads together, so that other work on the machine does not count;
medians of rounds in which all rows are interleaved.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlffjax.analysis.angles import AngleDistribution
from mlffjax.analysis.images import boxes_of, frames_at_once, images_needed
from mlffjax.analysis.lists import lists_pay
from mlffjax.analysis.pairs import RadialDistribution
from mlffjax.analysis.results import Observable
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.plots.style import ACCENT, MODEL, figure

HERE = Path(__file__).parent
DENSITY = 0.1  # atoms in a cubic Angstrom, of water
PERIODIC = (24, 48, 96, 192, 384, 768, 1536, 3072, 6144, 12_288, 20_577)
VACUUM = (9, 27, 81, 243, 729, 2187)
#: Radius in Angstrom; 2.5 has seven neighbours.
RADII = {"rdf": (6.0, 10.0), "adf": (2.5,)}
#: Most atoms of which all pairs are timed.
MOST = {"rdf": 12_288, "adf": 3072}


def block_of(atoms: int, frames: int, *, periodic: bool) -> FrameBlock:
    """Frames of atoms at random."""
    rng = np.random.default_rng(atoms)
    edge = (atoms / DENSITY) ** (1 / 3)
    if periodic:
        positions = rng.uniform(0, edge, (frames, atoms, 3))
        return FrameBlock(positions, np.broadcast_to(edge * np.eye(3), (frames, 3, 3)))
    towards = rng.normal(size=(frames, atoms, 3))
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    radius = (3 * atoms / (4 * math.pi * DENSITY)) ** (1 / 3)
    positions = radius * towards * rng.uniform(size=(frames, atoms, 1)) ** (1 / 3)
    return FrameBlock(positions, np.zeros((frames, 3, 3)))


class Row:
    """One observable of one system by one way."""

    def __init__(self, what: str, atoms: int, radius: float, *, periodic: bool, lists: bool):
        pbc = np.full(3, periodic)
        block = block_of(atoms, 1, periodic=periodic)
        box = boxes_of(block.cell, pbc)
        images = len(images_needed(box, pbc, radius))
        # As many frames as all pairs fill their arrays with.
        self.block = block_of(atoms, frames_at_once(atoms, images), periodic=periodic)
        numbers = np.where(np.arange(atoms) % 3, 1, 8)
        self.observable: Observable = (
            RadialDistribution(numbers, pbc, radius, lists=lists)
            if what == "rdf"
            else AngleDistribution(numbers, pbc, radius, lists=lists)
        )
        self.about = {
            "what": what,
            "atoms": atoms,
            "radius": radius,
            "periodic": periodic,
            "lists": lists,
            "images": images,
            "chosen": lists_pay(block.positions[0], box[0], pbc, radius, images),
        }
        self.times: list[float] = []

    def time(self) -> None:
        """Add the frames once."""
        begin = time.process_time()
        self.observable.add(self.block)
        self.times.append((time.process_time() - begin) / len(self.block))

    def record(self) -> dict[str, Any]:
        """Milliseconds of a frame; the first round compiled."""
        quartiles = np.percentile(self.times[1:], [25, 50, 75])
        return self.about | {"ms": 1e3 * quartiles[1], "quartiles_ms": (1e3 * quartiles).tolist()}


def rows() -> Iterator[Row]:
    """All that is timed."""
    for what, radii in RADII.items():
        for radius in radii:
            for periodic, sizes in ((True, PERIODIC), (False, VACUUM)):
                for atoms in sizes:
                    for lists in (True, False):
                        if lists or atoms <= MOST[what]:
                            yield Row(what, atoms, radius, periodic=periodic, lists=lists)


def exponent(records: list[dict[str, Any]], smallest: int) -> float:
    """Slope of log time against log atoms, of systems of so many atoms and more."""
    chosen = [r for r in records if r["atoms"] >= smallest]
    x, y = (np.log([r[key] for r in chosen]) for key in ("atoms", "ms"))
    return float(np.polyfit(x, y, 1)[0])


def of(records: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The records that have these values."""
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def table(records: list[dict[str, Any]]) -> None:
    """Print times side by side."""
    print("| | radius (Å) | atoms | lists (ms) | all pairs (ms) | chosen |")
    print("|---|---|---|---|---|---|")
    for r in of(records, lists=True):
        same = {key: r[key] for key in ("what", "atoms", "radius", "periodic")}
        other = [f"{o['ms']:.3g}" for o in of(records, lists=False, **same)]
        where = "periodic" if r["periodic"] else "vacuum"
        chosen = "lists" if r["chosen"] else "all pairs"
        print(
            f"| {r['what']}, {where} | {r['radius']:g} | {r['atoms']} | {r['ms']:.3g} | "
            f"{other[0] if other else ''} | {chosen} |"
        )


def draw(path: Path, records: list[dict[str, Any]]) -> None:
    """Time of a frame of a periodic system against its atoms."""
    panels = (("rdf", 10.0), ("adf", 2.5))
    with figure(path, 9.0, 3.6, columns=2) as axes:
        for ax, (what, radius) in zip(axes, panels, strict=True):
            for lists, color, label in ((True, MODEL, "lists"), (False, ACCENT, "all pairs")):
                line = of(records, what=what, radius=radius, periodic=True, lists=lists)
                x, y = ([r[key] for r in line] for key in ("atoms", "ms"))
                ax.loglog(x, y, "o-", markersize=3.5, color=color, label=label)
            ax.set(xlabel="atoms", ylabel="processor time of a frame (ms)")
            ax.set_title(f"{what.upper()}, radius {radius:g} Å", loc="left")
        axes[0].legend()


def main() -> None:
    parser = argparse.ArgumentParser(description="RDF and ADF: neighbour lists and all pairs.")
    parser.add_argument("--rounds", type=int, default=5, help="the first compiles")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    timed = list(rows())
    for _ in range(args.rounds):
        for row in timed:
            row.time()
    records = [row.record() for row in timed]
    table(records)
    slopes = {
        f"{what} {radius:g}": exponent(
            of(records, what=what, radius=radius, periodic=True, lists=True), 1536
        )
        for what, radii in RADII.items()
        for radius in radii
    }
    print(f"exponents from 1,536 atoms on: {slopes}")
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "scaling.png", records)
    record = {"rows": records, "exponents": slopes, "rounds": args.rounds}
    (args.out / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
