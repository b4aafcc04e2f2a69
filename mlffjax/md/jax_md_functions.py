"""A potential as the functions that JAX-MD's own simulations take."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from mlffjax.graph import AtomGraph
from mlffjax.md import device_neighbors
from mlffjax.md.device_neighbors import NeighborPlan, Neighbors
from mlffjax.neighbors import complete_cell
from mlffjax.potential import Potential
from mlffjax.types import Forces, HostCell, HostNumbers, HostPbc, Positions

# Compiled once: its branches would be compiled anew in each call that is not itself compiled.
_update = jax.jit(device_neighbors.update, static_argnums=0)


@struct.dataclass
class NeighborList:
    """A neighbour list with the manners of JAX-MD's.

    Attributes:
      neighbors: the list on the device.
      plan: its sizes (static).
    """

    neighbors: Neighbors
    plan: NeighborPlan = struct.field(pytree_node=False)

    def update(self, positions: Positions) -> "NeighborList":
        """The list for ``positions`` ``[atoms, 3]``; can be part of a compiled program."""
        neighbors = _update(self.plan, self.neighbors, positions)
        return replace(self, neighbors=neighbors)

    @property
    def did_buffer_overflow(self) -> Bool[Array, ""]:
        """Whether pairs were left out since the list was allocated: allocate a new one."""
        return self.neighbors.overflow(self.plan)


class JaxMDFunctions(NamedTuple):
    """A potential for ``jax_md.simulate``, in eV, Angstrom and amu.

    Time is then in units of :data:`mlffjax.md.velocities.TIME_UNIT_FS` and ``kT`` in eV.

    Attributes:
      allocate: ``allocate(positions)`` makes a :class:`NeighborList`; not to be compiled.
      energy_fn: ``energy_fn(positions, neighbor=list)``: interaction energy in eV, without the
        element baseline.
      force_fn: ``force_fn(positions, neighbor=list)``: forces ``[atoms, 3]`` in eV/Angstrom, at
        about the same cost as the energy's gradient, and right for models with direct forces.
      shift_fn: ``shift_fn(positions, step)``; atoms are not wrapped into the cell. A shift of
        JAX-MD's own that wraps them is as good, as long as none moves half a cell between lists.

    All three take the ``kT`` that JAX-MD hands on from a ramp. The cell is fixed: for constant
    pressure use :func:`mlffjax.md.engine.run_md`.
    """

    allocate: Callable[[Positions], NeighborList]
    energy_fn: Callable[..., Float[Array, ""]]
    force_fn: Callable[..., Forces]
    shift_fn: Callable[..., Positions]


def as_jax_md(
    potential: Potential,
    numbers: HostNumbers,
    cell: HostCell,
    pbc: HostPbc,
    skin: float = 1.0,
) -> JaxMDFunctions:
    """The potential of one system as functions for JAX-MD.

    >>> fns = as_jax_md(potential, numbers, cell, pbc)  # doctest: +SKIP
    >>> init, step = jax_md.simulate.nve(fns.force_fn, fns.shift_fn, dt)  # doctest: +SKIP
    >>> neighbor = fns.allocate(positions)  # doctest: +SKIP
    >>> state = init(key, positions, kT=kT, mass=masses, neighbor=neighbor)  # doctest: +SKIP
    >>> neighbor = neighbor.update(state.position)  # doctest: +SKIP
    >>> state = step(state, neighbor=neighbor)  # doctest: +SKIP

    The list is updated before a step and used after it, as usual with JAX-MD: keep the skin
    wider than what an atom moves in a step. :func:`mlffjax.md.engine.run_md` needs no such care.

    Args:
      potential: the force field.
      numbers: atomic numbers ``[atoms]``.
      cell: lattice vectors as rows, in Angstrom; zeros for a molecule.
      pbc: periodic directions ``[3]``.
      skin: in Angstrom.

    Raises:
      ValueError: an element the potential does not know, or a cell without volume.
    """
    potential.check_elements(np.asarray(numbers))
    periodic, cell = np.asarray(pbc, bool), np.asarray(cell, np.float64)
    box = complete_cell(cell, periodic)
    inverse = np.linalg.inv(box)
    species = jnp.asarray(numbers, jnp.int32)

    def allocate(positions: Positions) -> NeighborList:
        host = np.asarray(positions, np.float64)
        plan = device_neighbors.plan_neighbors(
            host, cell, pbc, potential.cutoff, skin, half=potential.module.pairwise
        )
        # An energy cannot report that there were too many edges: room for all candidates.
        plan = replace(plan, edges=plan.candidates)
        placed = jnp.asarray(positions)
        return NeighborList(
            device_neighbors.allocate(plan, placed, jnp.asarray(box, placed.dtype)), plan
        )

    def graph(positions: Positions, neighbor: NeighborList) -> AtomGraph:
        lattice = jnp.asarray(cell, positions.dtype)
        # Where they were when the list was made, should they have been wrapped since.
        moved = (neighbor.neighbors.reference - positions) @ jnp.asarray(inverse, lattice.dtype)
        wraps = jnp.where(jnp.asarray(periodic), jnp.round(moved), 0)
        return device_neighbors.current_graph(
            neighbor.plan, neighbor.neighbors, species, positions + wraps @ lattice, lattice
        )[0]

    def energy_fn(
        positions: Positions, neighbor: NeighborList, kT: Array | float | None = None
    ) -> Float[Array, ""]:
        del kT  # JAX-MD hands the arguments of the thermostat on
        return potential.energy(graph(positions, neighbor)).energy[0]

    def force_fn(
        positions: Positions, neighbor: NeighborList, kT: Array | float | None = None
    ) -> Forces:
        del kT
        forces = potential.energy_forces(graph(positions, neighbor)).forces
        assert forces is not None
        return forces

    def shift_fn(
        positions: Positions,
        step: Array,
        neighbor: NeighborList | None = None,
        kT: Array | float | None = None,
    ) -> Positions:
        del neighbor, kT
        return positions + step

    return JaxMDFunctions(allocate, energy_fn, force_fn, shift_fn)
