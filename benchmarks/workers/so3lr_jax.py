"""SO3LR under test: energy and forces, dynamics with the step and lists of its command line.

SO3krates of its authors with energies of long range (electrostatics, dispersion) and its own
weights, which change no time.
"""

from functools import cache, partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from jax_md import units
from mlff.mdx.potential import MLFFPotentialSparse
from serve import Call, serve
from so3lr import So3lrPotential
from so3lr.cli import so3lr_md

#: Reach of the long range, Angstrom: so3lr's default. In smaller cells half the shortest edge,
#: though its command line refuses less than 10: fewer pairs, to its advantage.
LONG_RANGE = 12.0
#: Of dynamics, as in ours.
TIMESTEP_FS, TEMPERATURE = 0.5, 300.0


@cache
def _potential(long_range: float) -> MLFFPotentialSparse:
    return So3lrPotential(lr_cutoff=long_range)


class _System:
    """A structure with its functions of energy and of neighbour lists.

    Args:
      case: of one structure.

    Raises:
      ValueError: several structures, another cutoff, or a cell that is not orthorhombic.
    """

    def __init__(self, case: dict[str, Any]) -> None:
        (structure,) = case["structures"]
        atoms = Atoms(
            structure["numbers"],
            positions=structure["positions"],
            cell=structure["cell"],
            pbc=structure["pbc"],
        )
        periodic = bool(atoms.pbc.all())
        reach = min(LONG_RANGE, atoms.cell.lengths().min() / 2) if periodic else LONG_RANGE
        potential = _potential(float(reach))
        if potential.cutoff != case["settings"]["cutoff"]:
            raise ValueError(
                f"got the cutoff {case['settings']['cutoff']}; expected {potential.cutoff}"
            )
        if periodic:
            if not atoms.cell.orthorhombic:
                raise ValueError(f"got the cell {structure['cell']}; expected an orthorhombic one")
            atoms.wrap()
        arrays = so3lr_md.atoms_to_jnp(atoms)
        self.masses = arrays["masses"]
        self.positions, self.box, displacement, self.shift, fractional = so3lr_md.handle_box(
            "periodic" if periodic else "free",
            arrays["positions"],
            np.asarray(atoms.cell) if periodic else None,
        )
        *self.lists, energy = so3lr_md.process_model(
            potential=potential,
            species=arrays["species"],
            displacement=displacement,
            box=self.box,
            fractional_coordinates=fractional,
        )
        self.energy = partial(energy, k_smearing=None)

    def allocated(self, positions: jax.Array) -> list[Any]:
        """Lists of short and long range."""
        return [make.allocate(positions, box=self.box) for make in self.lists]


def forces(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Energy and forces with neighbour lists at hand, without padding."""
    system = _System(case)
    short, long = system.allocated(system.positions)
    near, far = (x.idx[:, x.idx[0] < len(system.positions)] for x in (short, long))

    @jax.jit
    def program(positions: jax.Array, near: jax.Array, far: jax.Array) -> Any:
        energy = partial(system.energy, neighbor=near, neighbor_lr=far, box=system.box)
        return jax.value_and_grad(energy)(positions)

    def call() -> int:
        jax.block_until_ready(program(system.positions, near, far))
        return 1

    return call, _facts(system, short, long)


def md(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """NVE dynamics at 300 K as its command line does it: lists made anew in every step.

    The state is kept from call to call. With its own weights forces are physical, so steps are as
    long as ours.
    """
    system = _System(case)
    short, long = system.allocated(system.positions)
    scaled = so3lr_md.handle_units(units.metal_unit_system, 1e-3 * TIMESTEP_FS, TEMPERATURE)
    init, step = so3lr_md.create_nve_fn(
        jax.jit(system.energy), system.shift, scaled["dt"], scaled["T"], system.box, lr=True
    )
    state = init(
        jax.random.PRNGKey(0),
        system.positions,
        kT=scaled["T"],
        mass=system.masses,
        neighbor=short.idx,
        neighbor_lr=long.idx,
        box=system.box,
        k_grid=None,
    )
    carry = (state, short, long, system.box, None)

    def call() -> int:
        nonlocal carry
        # As its command line runs a cycle.
        carry = jax.block_until_ready(jax.lax.fori_loop(0, case["steps"], step, carry))
        state, short, long, *_ = carry
        if short.did_buffer_overflow or long.did_buffer_overflow:
            raise RuntimeError("a neighbour list overflowed")
        if not jnp.isfinite(state.momentum).all():
            raise RuntimeError("got momenta that are not finite")
        return case["steps"]

    return call, _facts(system, short, long)


def _facts(system: _System, short: Any, long: Any) -> dict[str, Any]:
    atoms = len(system.positions)
    return {
        "edges": int(jnp.sum(short.idx[0] < atoms)),
        "pairs_of_long_range": int(jnp.sum(long.idx[0] < atoms)),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("so3lr", "mlff", "jax", "jaxlib", "jax-md", "numpy")}


if __name__ == "__main__":
    serve({"forces": forces, "md": md}, _versions)
