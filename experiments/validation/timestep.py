"""Fluctuation of the total energy in NVE against the time step, for every architecture.

    python experiments/validation/timestep.py

Water held together by springs, and on top each architecture of the registry in its default face,
with small widths and random weights, whose forces at the start are of 0.5 eV/Angstrom. The same
150 fs from the same positions and velocities with several time steps, in float32 and in float64:
the engine's own stretch of steps, compiled once for all of them. What is in the results already
is not done again.
"""

import argparse
import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
from mlffjax.graph import EdgeGraph
from mlffjax.md import chunk
from mlffjax.md.engine import Run
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.models import Architecture, build
from mlffjax.models.base import AtomwiseOutput
from mlffjax.neighbors import atom_graph
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.plots.style import ACCENT, FAINT, MODEL, figure, note
from mlffjax.potential import Potential

HERE = Path(__file__).parent
#: In fs; the fastest vibration has a period of 9 fs, and a network with random weights is stiff.
TIMESTEPS = (0.5, 0.25, 0.125, 0.0625)
DURATION_FS = 150.0
#: Between the energies of which the fluctuation is taken, the same for all time steps, in fs.
ROW_FS = 0.5
#: In Angstrom/fs; about 300 K.
SPEED = {8: 0.004, 1: 0.016}
CUTOFF = 4.0
#: eV/Angstrom^2, and Angstrom by the sum of the species, hydrogen 0 and oxygen 1.
STIFFNESS, LENGTHS = 40.0, (1.51, 0.96, 1.2)
#: Root mean square of the network's forces at the start, in eV/Angstrom.
NETWORK_FORCE = 0.5
#: Widths alone are made smaller; all else is the default of each architecture.
WIDTHS: dict[str, dict[str, Any]] = {
    "schnet": {"num_features": 32, "num_layers": 3, "num_basis": 24},
    "so3krates": {"num_features": 32, "num_layers": 2, "num_heads": 4, "degrees": [1, 2]},
    "painn": {"num_features": 24, "num_layers": 2, "num_radial": 12},
    "leignn": {"num_features": 24, "num_layers": 2, "num_radial": 12},
    "alphanet": {
        "num_features": 16,
        "num_layers": 2,
        "num_radial": 8,
        "num_heads": 4,
        "state_size": 6,
        "phase_size": 6,
        "contraction_size": 12,
        "kernel_size": 4,
    },
    "mace": {"num_channels": 12, "max_degree": 2, "radial_widths": [16, 16]},
    "nequip": {"num_channels": 12, "max_degree": 1, "num_layers": 3, "radial_widths": [16]},
    "equiformer_v2": {
        "num_layers": 1,
        "num_channels": 12,
        "max_degree": 2,
        "max_order": 1,
        "num_heads": 2,
        "attention_channels": 8,
        "alpha_channels": 8,
        "value_channels": 4,
        "feed_forward_channels": 12,
        "edge_channels": 12,
        "num_basis": 16,
        "attention_grid": [4, 16],
        "feed_forward_grid": [9, 18],
    },
}
#: Forces that are no gradient, for which the slope cannot be two: the judge must say so.
CONTROL = "leignn, direct forces"


class Water(Architecture):
    """Springs, and a network on top.

    Attributes:
      network: what is added; its forces replace the gradient if it predicts them.
      strength: factor of the network.
    """

    network: Architecture | None = None
    strength: float = 1.0

    @property
    def direct_forces(self) -> bool:
        """Whether the network predicts forces."""
        return self.network is not None and self.network.direct_forces

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``, and forces where the network predicts them."""
        r = jnp.linalg.norm(graph.vectors, axis=-1)
        kind = graph.species[graph.senders] + graph.species[graph.receivers]
        stretch = r - jnp.asarray(LENGTHS, r.dtype)[kind]
        energy = sum_to_receivers(STIFFNESS / 4 * stretch**2, graph)
        assert self.network is not None
        output = self.network(graph)
        total = energy + self.strength * output.energy
        if output.forces is None:
            return AtomwiseOutput(total)
        pull = STIFFNESS * (stretch / r)[:, None] * graph.vectors
        forces = sum_to_receivers(pull, graph) + self.strength * output.forces
        return AtomwiseOutput(total, forces)


def water() -> Frame:
    """A bent molecule near the minimum of the springs."""
    positions = np.array([[0.0, 0.0, 0.0], [0.97, 0.0, 0.02], [-0.25, 0.93, 0.0]])
    return Frame(np.array([8, 1, 1]), positions, np.zeros((3, 3)), np.zeros(3, bool))


def potential(name: str) -> Potential:
    """Springs and a network of random weights, in double precision."""
    direct = name == CONTROL
    fields = WIDTHS["leignn"] | {"force_head": True} if direct else WIDTHS[name]
    network = build("leignn" if direct else name, {**fields, "cutoff": CUTOFF}).clone(
        num_elements=2
    )
    make = partial(Potential.init, elements=[1, 8], key=jax.random.key(3), dtype=jnp.float64)
    frame = water()
    graph = atom_graph(frame.numbers, frame.positions, frame.cell, frame.pbc, CUTOFF, np.float64)
    alone = make(network)
    forces = jax.jit(Potential.energy_forces)(alone, graph).forces
    assert forces is not None
    size = float(jnp.sqrt((forces**2).mean()))
    return make(Water(network=network, strength=NETWORK_FORCE / size, cutoff=CUTOFF))


@partial(jax.jit, static_argnames="program")
def advance(
    program: chunk.Program,
    moving: Potential,
    system: chunk.System,
    state: Any,
    dt: Float[Array, ""],
    count: Array,
) -> chunk.Stretch:
    """The engine's stretch with the time step as an argument, so that one program serves all."""
    integrator = replace(program.integrator, dt=dt)
    own = replace(program, integrator=integrator)
    zero = jnp.zeros((), jnp.int32)
    return chunk.advance.__wrapped__(own, moving, system, state, zero, count)


def total_energies(moving: Potential) -> list[np.ndarray]:
    """Total energies in eV at equal times, for each time step."""
    settings = MDSettings(
        ensemble="nve",
        steps=round(DURATION_FS / min(TIMESTEPS)),
        thermo_interval=1,
        frame_interval=10_000,
        chunk_steps=round(DURATION_FS / min(TIMESTEPS)),
    )
    frame = water()
    directions = np.random.default_rng(1).normal(size=(3, 3))
    velocities = directions * np.array([SPEED[z] for z in frame.numbers.tolist()])[:, None]
    with warnings.catch_warnings():
        # That direct forces do not conserve is what the control shows.
        warnings.filterwarnings("ignore", message="got direct forces in NVE")
        run = Run(moving, frame, settings, velocities)
    run.begin(velocities)
    found = []
    for timestep in TIMESTEPS:
        count = round(DURATION_FS / timestep)
        dt = jnp.asarray(timestep / TIME_UNIT_FS, moving.dtype)
        stretch = advance(
            run.program, moving, run.system, run.state, dt, jnp.asarray(count, jnp.int32)
        )
        if bool(stretch.overflow) or not bool(stretch.sound) or int(stretch.done) != count:
            raise ValueError(f"got {int(stretch.done)} sound steps of {timestep} fs of {count}")
        rows = np.asarray(stretch.records.thermo[:count], np.float64)
        every = round(ROW_FS / timestep)
        found.append(rows[every - 1 :: every, :2].sum(axis=1))
    return found


def slope(timesteps: np.ndarray, fluctuations: np.ndarray) -> float:
    """Exponent of a power law through the points."""
    return float(np.polyfit(np.log(timesteps), np.log(fluctuations), 1)[0])


def measure(moving: Potential) -> dict[str, Any]:
    """Fluctuations in meV per atom by time step, and their slope in log-log."""
    spread = np.array([1e3 * total.std() / 3 for total in total_energies(moving)])
    steps = np.array(TIMESTEPS)
    local = np.diff(np.log(spread)) / np.diff(np.log(steps))
    return {
        "timesteps_fs": list(TIMESTEPS),
        "fluctuation_mev_per_atom": spread.tolist(),
        "slope": slope(steps, spread),
        "local_slopes": local.tolist(),
    }


def draw(path: Path, results: dict[str, Any]) -> None:
    """A panel for each architecture; both precisions and a line of slope two."""
    names = sorted(results, key=lambda name: (name == CONTROL, name))
    columns = 5
    rows = -(-len(names) // columns)
    with figure(path, 2.7 * columns, 2.7 * rows, rows=rows, columns=columns) as axes:
        for ax, name in zip(axes.flat, names, strict=False):
            for dtype, colour, mark in (("float64", MODEL, "o"), ("float32", ACCENT, "x")):
                run = results[name][dtype]
                dt, spread = run["timesteps_fs"], run["fluctuation_mev_per_atom"]
                label = f"{dtype}: {run['slope']:.2f}"
                ax.loglog(dt, spread, mark, color=colour, label=label, markersize=6)
            line = results[name]["float64"]
            dt = np.array(line["timesteps_fs"])
            ax.loglog(dt, line["fluctuation_mev_per_atom"][0] * (dt / dt[0]) ** 2, color=FAINT)
            ax.set_xticks(TIMESTEPS, [f"{dt:g}" for dt in TIMESTEPS])
            ax.minorticks_off()
            ax.set_title(name, loc="left")
            ax.legend(loc="upper left", handletextpad=0.1)
            low, high = ax.get_ylim()
            ax.set_ylim(low, 12 * high)
        for ax in axes.flat[len(names) :]:
            ax.set_axis_off()
            note(ax, "slopes in log-log;\ngrey: slope two")
        for ax in axes[-1]:
            ax.set_xlabel("time step (fs)")
        for ax in axes[:, 0]:
            ax.set_ylabel("fluctuation (meV/atom)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Energy fluctuation against the time step.")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    parser.add_argument("--only", nargs="+", default=[*WIDTHS, CONTROL], help="architectures")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    record = args.out / "timestep.json"
    results = json.loads(record.read_text()) if record.is_file() else {}
    for name in args.only:
        if name in results:
            continue
        made = potential(name)
        runs = {dtype: measure(made.astype(dtype)) for dtype in ("float32", "float64")}
        results[name] = runs
        args.out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(results, indent=1) + "\n")
        slopes = ", ".join(f"{dtype} {run['slope']:.3f}" for dtype, run in runs.items())
        print(f"{name}: slope {slopes}", flush=True)
    draw(args.out / "timestep.png", results)


if __name__ == "__main__":
    main()
