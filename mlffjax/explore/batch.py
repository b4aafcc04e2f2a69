"""Many small systems in one evaluation: slots of equal size, edges picked on the device.

Every slot has room for the same number of atoms, so that what an optimiser or integrator keeps
is a dense array with the slot as first axis. The edges of all slots stand in one flat list, so
that the cost of a model follows the real number of edges and not the padding.

Pairs of a slot are all pairs of its atoms (and, in a small cell, of the copies that make minimum
image exact, see :mod:`mlffjax.md.device_neighbors`). They are listed once on the host; which of
them are edges is decided at every evaluation, with positions and cell as they are then. There is
no skin: the distances of all pairs cost little beside a model, and a moving cell needs no rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import ase.data
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.data.frames import Frame
from mlffjax.graph import AtomGraph, bucket
from mlffjax.md.device_neighbors import MARGIN, first_true, replicas_needed
from mlffjax.neighbors import complete_cell, neighbor_list
from mlffjax.potential import Potential

#: Pairs of one structure up to which all of them are looked at in every step (2800 atoms).
MAX_PAIRS = 8_000_000


@dataclass(frozen=True)
class BatchPlan:
    """Sizes of a batch; a new plan is a new compilation.

    Attributes:
      cutoff: in Angstrom.
      slots: structures at a time.
      atoms: room for atoms in a slot.
      pairs: room for pairs in a slot.
      edges: room for edges in all slots together.
      periodic: whether any structure has a periodic direction.
    """

    cutoff: float
    slots: int
    atoms: int
    pairs: int
    edges: int
    periodic: bool


@struct.dataclass
class Slots:
    """What stays fixed of the structures in the slots.

    Attributes:
      numbers: atomic numbers ``[slots, atoms]``; zero for padding.
      masses: in amu ``[slots, atoms]``; one for padding.
      node_mask: real atoms ``[slots, atoms]``.
      cell: lattice vectors as rows ``[slots, 3, 3]`` in Angstrom; zeros for a molecule.
      box: the same, complete in directions that are not periodic.
      pbc: periodic directions ``[slots, 3]``.
      replicas: copies of the cell along each lattice vector ``[slots, 3]``.
      receivers, senders: of each pair ``[slots, pairs]``, sorted by receiver.
      copies: translation of the sender in whole cells ``[slots, pairs, 3]``.
      pair_mask: real pairs ``[slots, pairs]``.
    """

    numbers: Int[Array, "slots atoms"]
    masses: Float[Array, "slots atoms"]
    node_mask: Bool[Array, "slots atoms"]
    cell: Float[Array, "slots 3 3"]
    box: Float[Array, "slots 3 3"]
    pbc: Bool[Array, "slots 3"]
    replicas: Int[Array, "slots 3"]
    receivers: Int[Array, "slots pairs"]
    senders: Int[Array, "slots pairs"]
    copies: Int[Array, "slots pairs 3"]
    pair_mask: Bool[Array, "slots pairs"]


@struct.dataclass
class BatchEvaluation:
    """Energies and derivatives of the slots.

    Attributes:
      energy: interaction energy ``[slots]`` in eV.
      forces: ``[slots, atoms, 3]`` in eV/Angstrom.
      virial: derivative by the symmetric strain ``[slots, 3, 3]`` in eV; zeros if not asked for.
      edges_needed: edges of all slots together.
      thin: a cell has become too thin for its copies ``[slots]``; its numbers are void.
    """

    energy: Float[Array, "slots"]
    forces: Float[Array, "slots atoms 3"]
    virial: Float[Array, "slots 3 3"]
    edges_needed: Int[Array, ""]
    thin: Bool[Array, "slots"]

    def overflow(self, plan: BatchPlan) -> Bool[Array, ""]:
        """Whether a pair was left out for want of room; all results are then void."""
        return (self.edges_needed > plan.edges) | jnp.any(self.thin)


class Needs(NamedTuple):
    """Room one structure needs: atoms, pairs, and edges as it is now."""

    atoms: int
    pairs: int
    edges: int


def needs(frame: Frame, cutoff: float, room: float = 1.0) -> Needs:
    """The room of a structure.

    Args:
      frame: the structure.
      cutoff: in Angstrom.
      room: factor on the radius within which the copies keep minimum image exact.

    Raises:
      ValueError: more pairs than are looked at at every step, or no neighbour list.
    """
    pairs = len(frame.numbers) ** 2 * int(np.prod(_replicas(frame, cutoff, room)))
    if pairs > MAX_PAIRS:
        raise ValueError(
            f"got {frame.name or 'a structure'} with {len(frame.numbers)} atoms, {pairs} pairs; "
            f"expected at most {MAX_PAIRS}; use an ASE optimiser with MLFFCalculator"
        )
    edges = len(neighbor_list(frame.positions, frame.cell, frame.pbc, cutoff).senders)
    return Needs(len(frame.numbers), pairs, edges)


def plan_batch(
    wanted: Sequence[Needs], slots: int, cutoff: float, periodic: bool, edges: int = 0
) -> BatchPlan:
    """Sizes for structures that pass through ``slots`` slots.

    Args:
      wanted: the room of each structure.
      slots: structures at a time.
      cutoff: in Angstrom.
      periodic: whether any structure has a periodic direction.
      edges: edges that are known to be needed, after an overflow.
    """
    atoms = max(n.atoms for n in wanted)
    pairs = bucket(max(n.pairs for n in wanted), 8)
    fullest = sum(sorted((n.edges for n in wanted), reverse=True)[:slots])
    room = bucket(int(MARGIN * max(fullest, edges)) + 8, 32)
    # Picking the edges costs more than it saves where nearly all pairs are edges.
    everything = slots * pairs
    room = everything if room > 0.8 * everything else room
    return BatchPlan(cutoff, slots, atoms, pairs, room, periodic)


def enlarge(plan: BatchPlan, edges_needed: int) -> BatchPlan:
    """The plan with room for this many edges and a margin."""
    everything = plan.slots * plan.pairs
    room = min(bucket(int(MARGIN * edges_needed) + 8, 32), everything)
    return replace(plan, edges=max(plan.edges, room))


def fill_slots(
    plan: BatchPlan, frames: Sequence[Frame | None], dtype: np.dtype | type, room: float = 1.0
) -> Slots:
    """The structures as arrays, on the host; ``None`` leaves a slot empty.

    Args:
      plan: sizes.
      frames: at most ``plan.slots``.
      dtype: of masses and cells.
      room: as in :func:`needs`.
    """
    one = [_one_slot(plan, frame, dtype, room) for frame in frames]
    one += [_one_slot(plan, None, dtype, room)] * (plan.slots - len(one))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *one)


def evaluate_batch(
    plan: BatchPlan,
    potential: Potential,
    slots: Slots,
    positions: Float[Array, "slots atoms 3"],
    active: Bool[Array, "slots"],
    deformation: Float[Array, "slots 3 3"] | None = None,
) -> BatchEvaluation:
    """Energies and forces of all active slots by one call of the model; can be compiled.

    Args:
      plan: sizes.
      potential: the force field.
      slots: the structures.
      positions: ``[slots, atoms, 3]`` in Angstrom.
      active: slots that are wanted; the others give zeros and cost no edges.
      deformation: matrix ``D`` of each slot with ``cell @ D`` as its present cell; the virial is
        computed where it is given.
    """
    with_virial = deformation is not None
    cell, box = slots.cell, slots.box
    if deformation is not None:
        cell, box = cell @ deformation, box @ deformation
    real = slots.pair_mask & active[:, None]
    shifts, near, thin = _near(plan, slots, positions, box, real)
    offsets = (jnp.arange(plan.slots, dtype=jnp.int32) * plan.atoms)[:, None]
    flat = lambda a: a.reshape(plan.slots * plan.pairs, *a.shape[2:])  # noqa: E731
    senders, receivers = flat(slots.senders + offsets), flat(slots.receivers + offsets)
    shifts, mask = flat(shifts), flat(near)
    needed = jnp.sum(mask, dtype=jnp.int32)
    if plan.edges < plan.slots * plan.pairs:
        index, mask, needed = first_true(mask, plan.edges)
        last = plan.slots * plan.atoms - 1
        senders = jnp.where(mask, senders[index], last)
        receivers = jnp.where(mask, receivers[index], last)
        shifts = jnp.where(mask[:, None], shifts[index], 0)
    graph = AtomGraph(
        numbers=slots.numbers.reshape(-1),
        positions=positions.reshape(-1, 3),
        cell=cell,
        graph_index=jnp.repeat(jnp.arange(plan.slots, dtype=jnp.int32), plan.atoms),
        senders=senders,
        receivers=receivers,
        shifts=shifts,
        node_mask=(slots.node_mask & active[:, None]).reshape(-1),
        edge_mask=mask,
        graph_mask=active,
    )
    prediction = (
        potential.energy_forces_stress(graph) if with_virial else potential.energy_forces(graph)
    )
    assert prediction.forces is not None
    zeros = jnp.zeros_like(cell)
    return BatchEvaluation(
        energy=prediction.energy,
        forces=prediction.forces.reshape(positions.shape),
        virial=zeros if prediction.virial is None else prediction.virial,
        edges_needed=needed,
        thin=thin & active,
    )


def _near(
    plan: BatchPlan,
    slots: Slots,
    positions: Float[Array, "slots atoms 3"],
    box: Float[Array, "slots 3 3"],
    real: Bool[Array, "slots pairs"],
) -> tuple[Int[Array, "slots pairs 3"], Bool[Array, "slots pairs"], Bool[Array, "slots"]]:
    """Lattice translation of each pair, whether it is within the cutoff, and thin cells."""
    take = jax.vmap(lambda x, index: x[index])
    vectors = take(positions, slots.senders) - take(positions, slots.receivers)
    shifts = slots.copies
    thin = jnp.zeros(plan.slots, bool)
    if plan.periodic:
        supercell = box * slots.replicas.astype(box.dtype)[:, :, None]
        vectors = vectors + jnp.einsum("bpk,bkx->bpx", slots.copies.astype(box.dtype), box)
        inverse = jnp.linalg.inv(supercell)
        wraps = -jnp.round(jnp.einsum("bpx,bxk->bpk", vectors, inverse))
        wraps = jnp.where(slots.pbc[:, None], wraps, 0)
        vectors = vectors + jnp.einsum("bpk,bkx->bpx", wraps, supercell)
        shifts = shifts + wraps.astype(jnp.int32) * slots.replicas[:, None]
        heights = 1 / jnp.linalg.norm(inverse, axis=1)
        thin = jnp.any(slots.pbc & (heights <= 2 * plan.cutoff), axis=1)
    itself = (slots.senders == slots.receivers) & jnp.all(shifts == 0, axis=-1)
    near = real & ~itself & (jnp.sum(vectors**2, axis=-1) < plan.cutoff**2)
    return shifts, near, thin


def _replicas(frame: Frame, cutoff: float, room: float) -> tuple[int, int, int]:
    pbc = np.asarray(frame.pbc, bool)
    return replicas_needed(complete_cell(np.asarray(frame.cell, float), pbc), pbc, room * cutoff)


def _one_slot(plan: BatchPlan, frame: Frame | None, dtype: np.dtype | type, room: float) -> Slots:
    """Arrays of one structure, without the slot axis."""
    numbers = np.zeros(plan.atoms, np.int32)
    masses = np.ones(plan.atoms, dtype)
    cell, box = np.zeros((3, 3), dtype), np.eye(3, dtype=dtype)
    pbc, replicas = np.zeros(3, bool), np.ones(3, np.int32)
    listed = np.zeros((5, plan.pairs), np.int32)
    count = pairs = 0
    if frame is not None:
        count = len(frame.numbers)
        numbers[:count] = frame.numbers
        masses[:count] = ase.data.atomic_masses[frame.numbers]
        pbc = np.asarray(frame.pbc, bool)
        cell[:] = frame.cell
        box[:] = complete_cell(np.asarray(frame.cell, float), pbc)
        replicas[:] = _replicas(frame, plan.cutoff, room)
        ranges = [np.arange(n, dtype=np.int32) for n in (count, count, *replicas)]
        grid = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(5, -1)
        pairs = grid.shape[1]
        listed[:, :pairs] = grid
        # Padding comes last and must not break the order of the receivers.
        listed[0, pairs:] = count - 1
    host = lambda a: a  # NumPy arrays stand where JAX arrays are annotated  # noqa: E731
    return Slots(
        numbers=host(numbers),
        masses=host(masses),
        node_mask=np.arange(plan.atoms) < count,  # pyright: ignore[reportArgumentType]
        cell=host(cell),
        box=host(box),
        pbc=host(pbc),
        replicas=host(replicas),
        receivers=listed[0],  # pyright: ignore[reportArgumentType]
        senders=listed[1],  # pyright: ignore[reportArgumentType]
        copies=listed[2:].T,  # pyright: ignore[reportArgumentType]
        pair_mask=np.arange(plan.pairs) < pairs,  # pyright: ignore[reportArgumentType]
    )
