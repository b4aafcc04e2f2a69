"""Neighbour lists that are remade on the device, inside a compiled simulation.

A list has two levels. *Candidates* are all pairs within the cutoff plus a skin; they stay valid
until an atom has moved half the skin. *Edges* are the candidates within the cutoff at the
present positions, picked anew at every evaluation, so that a model never works on pairs that
the skin alone brought in and results do not depend on the skin.

Minimum image is exact for all pairs within a radius ``r`` if every height of the periodic cell
is more than ``2 r``: a vector shorter than ``r`` has fractional components below one half. A
smaller or strongly skewed cell is therefore replicated, the fewest times that make this hold;
receivers are the atoms of the first copy and senders are mapped back with their translation.

Candidates come from all pairs where those are few, and from cell lists in large systems. For an
architecture that is ``pairwise`` each pair is kept once, so that there is half as much to look
through in every step.
"""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.compaction import WORD, first_true, pack, set_bits
from mlffjax.graph import AtomGraph, bucket, is_forward
from mlffjax.md.boxes import heights, inverse
from mlffjax.md.cell_lists import CellLists, cell_lists, roomier
from mlffjax.neighbors import complete_cell, neighbor_list
from mlffjax.nn import backend
from mlffjax.types import AtomMask, HostCell, HostPbc, HostVectors, Positions, Species

#: Time to look at one slot of the cell lists, relative to one of all pairs, where both cost the
#: same: cell lists took 3 times as long at 0.7 pairs for a slot and 0.8 times at 1.65, on a CPU
#: (``benchmarks/md_scaling.py lists``). For argon that is at some 1,800 atoms.
CELL_SLOT_COST = 1.4
#: Room for more candidates and edges than the first frame has.
MARGIN = 1.1
#: Up to so many atoms all pairs cost less than to keep a list of the near ones: on a CPU, and on
#: an accelerator, where no pair costs as much as the kernels of a list (``benchmarks/gpu.md``).
FEW_ATOMS = 16
FEW_ATOMS_OF_ACCELERATOR = 64


@dataclass(frozen=True)
class NeighborPlan:
    """What is static about a neighbour list; a new plan is a new compilation.

    Attributes:
      cutoff: in Angstrom.
      skin: in Angstrom; infinite where all pairs of a molecule stay candidates for good.
      pbc: periodic directions.
      replicas: copies of the cell along each lattice vector.
      candidates: room for pairs within cutoff plus skin; each counts twice, unless ``half``.
      edges: room for pairs within the cutoff, counted alike.
      cells: the cell lists of a large system; ``None`` for all pairs.
      half: each pair is kept once, see :func:`mlffjax.graph.half`.
    """

    cutoff: float
    skin: float
    pbc: tuple[bool, bool, bool]
    replicas: tuple[int, int, int]
    candidates: int
    edges: int
    cells: CellLists | None = None
    half: bool = False

    @property
    def found(self) -> int:
        """Room for what a search finds: every pair twice."""
        return 2 * self.candidates if self.half else self.candidates

    def counted(self, pairs: int) -> int:
        """How many of so many ordered pairs a list has."""
        return -(-pairs // 2) if self.half else pairs

    @property
    def renewed(self) -> bool:
        """Whether the list is kept for some steps and then made anew."""
        return 0 < self.skin < math.inf


@struct.dataclass
class Neighbors:
    """A neighbour list on the device.

    Attributes:
      senders, receivers: candidates ``[candidates]``, sorted by receiver.
      shifts: lattice translation of the sender ``[candidates, 3]``, for positions as they are
        (not wrapped into the cell).
      mask: true for real candidates ``[candidates]``.
      reference: positions at which the candidates were made ``[atoms, 3]`` in Angstrom.
      box: lattice vectors as rows ``[3, 3]`` at which the candidates were made, complete in
        directions that are not periodic.
      rebuilds: how often the candidates were made.
      candidates_needed: the most candidates there have been.
      edges_needed: the most edges there have been.
      cells_overflow: a cell of the cell lists was too full, or the cell shrank below the
        plan's replicas.
    """

    senders: Int[Array, "candidates"]
    receivers: Int[Array, "candidates"]
    shifts: Int[Array, "candidates 3"]
    mask: Bool[Array, "candidates"]
    reference: Positions
    box: Float[Array, "3 3"]
    rebuilds: Int[Array, ""]
    candidates_needed: Int[Array, ""]
    edges_needed: Int[Array, ""]
    cells_overflow: Bool[Array, ""]

    def overflow(self, plan: NeighborPlan) -> Bool[Array, ""]:
        """Whether a pair was ever left out for want of room; results are then void."""
        return (
            (self.candidates_needed > plan.candidates)
            | (self.edges_needed > plan.edges)
            | self.cells_overflow
        )


def replicas_needed(box: HostCell, pbc: HostPbc, radius: float) -> tuple[int, int, int]:
    """Copies of the cell along each lattice vector that make minimum image exact.

    Args:
      box: complete lattice vectors as rows ``[3, 3]`` in Angstrom.
      pbc: periodic directions ``[3]``.
      radius: longest pair in Angstrom.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(np.asarray(box, np.float64)), axis=0)
    # One part in 10^4 more, so that rounding to float32 cannot matter.
    counts = [
        math.ceil(2.0002 * radius / h) if periodic else 1
        for h, periodic in zip(heights, np.asarray(pbc, bool), strict=True)
    ]
    return (counts[0], counts[1], counts[2])


def plan_neighbors(
    positions: HostVectors,
    cell: HostCell,
    pbc: HostPbc,
    cutoff: float,
    skin: float,
    *,
    half: bool = False,
) -> NeighborPlan:
    """Sizes for the neighbour lists of a system, from its present positions.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
      cell: lattice vectors as rows, in Angstrom; zeros for a molecule.
      pbc: periodic directions ``[3]``.
      cutoff: in Angstrom.
      skin: in Angstrom, see :attr:`NeighborPlan.skin`.
      half: keep each pair once, for an architecture that is ``pairwise``.

    Raises:
      ValueError: as :func:`mlffjax.neighbors.neighbor_list`, or an infinite skin of something
        periodic.
    """
    if any(pbc) and math.isinf(skin):
        raise ValueError("got an infinite skin of a periodic frame; expected a molecule")
    atoms, box = len(positions), complete_cell(np.asarray(cell, np.float64), np.asarray(pbc, bool))
    replicas = replicas_needed(box, pbc, cutoff + skin)
    a, b, c = (bool(p) for p in pbc)
    plan = NeighborPlan(cutoff, skin, (a, b, c), replicas, 0, 0, half=half)
    edges = plan.counted(len(neighbor_list(positions, cell, pbc, cutoff).senders))
    if math.isinf(skin):
        return _with_room(plan, atoms, plan.counted(atoms * (atoms - 1)), edges)
    candidates = plan.counted(len(neighbor_list(positions, cell, pbc, cutoff + skin).senders))
    plan = _with_room(plan, atoms, candidates, edges)
    cells = cell_lists(positions, box, plan.pbc, cutoff + skin)
    return with_cheaper(plan, cells, atoms)


def with_cheaper(plan: NeighborPlan, cells: CellLists, atoms: int) -> NeighborPlan:
    """The plan with cell lists where they look at fewer pairs of so many atoms than all pairs."""
    cheaper = CELL_SLOT_COST * cells.slots_per_atom < atoms * math.prod(plan.replicas)
    return replace(plan, cells=cells if cheaper else None)


def enlarge(plan: NeighborPlan, neighbors: Neighbors, positions: HostVectors) -> NeighborPlan:
    """The plan with more room, after an overflow.

    Args:
      plan: whose room did not suffice.
      neighbors: the list that overflowed.
      positions: where to start again ``[atoms, 3]`` in Angstrom.
    """
    box = np.asarray(neighbors.box, np.float64)
    radius = plan.cutoff + plan.skin
    candidates, edges = int(neighbors.candidates_needed), int(neighbors.edges_needed)
    # Of a cell that moves, the narrowest shape met so far.
    needed = replicas_needed(box, np.asarray(plan.pbc), radius)
    most = [max(pair) for pair in zip(plan.replicas, needed, strict=True)]
    larger = replace(plan, replicas=(most[0], most[1], most[2]))
    if candidates > plan.candidates:
        larger = _with_room(larger, len(positions), candidates, max(edges, plan.edges))
    elif edges > plan.edges:
        larger = _with_room(larger, len(positions), 0, edges)
    if plan.cells is None:
        return larger
    if not bool(neighbors.cells_overflow):
        return larger
    fresh = cell_lists(positions, box, plan.pbc, radius)
    return replace(larger, cells=roomier(plan.cells, fresh))


def allocate(
    plan: NeighborPlan,
    positions: Positions,
    box: Float[Array, "3 3"],
    node_mask: AtomMask | None = None,
) -> Neighbors:
    """The list of a plan at ``positions`` ``[atoms, 3]``; can be compiled.

    Args:
      plan: sizes.
      positions: in Angstrom, not necessarily inside the cell.
      box: complete lattice vectors as rows, in Angstrom.
      node_mask: as for :func:`rebuild`.
    """
    zero = jnp.zeros((), jnp.int32)
    empty = Neighbors(
        senders=jnp.zeros(plan.candidates, jnp.int32),
        receivers=jnp.zeros(plan.candidates, jnp.int32),
        shifts=jnp.zeros((plan.candidates, 3), jnp.int32),
        mask=jnp.zeros(plan.candidates, bool),
        reference=positions,
        box=box,
        rebuilds=zero,
        candidates_needed=zero,
        edges_needed=zero,
        cells_overflow=jnp.zeros((), bool),
    )
    return rebuild(plan, empty, positions, node_mask)


def update(
    plan: NeighborPlan,
    neighbors: Neighbors,
    positions: Positions,
    box: Float[Array, "3 3"] | None = None,
) -> Neighbors:
    """The list, remade where it is :func:`outdated`; can be compiled.

    Args:
      plan: sizes.
      neighbors: the list so far.
      positions: ``[atoms, 3]`` in Angstrom.
      box: complete lattice vectors as rows, in Angstrom; as before if not given.
    """
    now = neighbors if box is None else replace(neighbors, box=box)
    if not plan.renewed:
        return rebuild(plan, now, positions) if plan.skin == 0 else neighbors
    return jax.lax.cond(
        outdated(plan, neighbors, positions, box),
        lambda: rebuild(plan, now, positions),
        lambda: neighbors,
    )


def outdated(
    plan: NeighborPlan,
    neighbors: Neighbors,
    positions: Positions,
    box: Float[Array, "3 3"] | None = None,
    node_mask: AtomMask | None = None,
) -> Bool[Array, ""]:
    """Whether an atom has moved half the skin, so that a pair may be missing.

    Where the cell has changed by the deformation ``F``, a pair left out was longer than the
    cutoff plus the skin, and is now at least ``(cutoff + skin) (1 - |F - 1|)`` less the motion
    of its atoms relative to the deformation. The bound on that motion shrinks accordingly.

    Args:
      plan: sizes.
      neighbors: the list so far.
      positions: ``[atoms, 3]`` in Angstrom.
      box: complete lattice vectors as rows, in Angstrom; as before if not given.
      node_mask: true for real atoms ``[atoms]``; all are if not given.
    """
    reference, slack = neighbors.reference, jnp.asarray(plan.skin, positions.dtype)
    if box is not None:
        deformation = inverse(neighbors.box) @ box
        strain = jnp.linalg.norm(deformation - jnp.eye(3, dtype=box.dtype))
        slack = slack - (plan.cutoff + plan.skin) * strain
        reference = reference @ deformation
    moved = jnp.sum((positions - reference) ** 2, axis=-1)
    late = (slack <= 0) | (moved > (slack / 2) ** 2)
    return jnp.any(late if node_mask is None else late & node_mask)


def rebuild(
    plan: NeighborPlan,
    old: Neighbors,
    positions: Positions,
    node_mask: AtomMask | None = None,
) -> Neighbors:
    """The list made anew; can be compiled.

    Args:
      plan: sizes.
      old: the list so far.
      positions: ``[atoms, 3]`` in Angstrom.
      node_mask: true for real atoms ``[atoms]``; all are if not given.
    """
    if plan.cells is None:
        senders, receivers, shifts, mask, needed = _all_pairs(plan, positions, old.box, node_mask)
        overflow = jnp.zeros((), bool)
    else:
        senders, receivers, shifts, mask, needed, overflow = plan.cells.pairs(
            positions, old.box, plan.found, node_mask
        )
    if plan.half:
        forward = mask & is_forward(senders, receivers, shifts)
        index, mask, _ = first_true(forward, plan.candidates)
        senders, receivers, shifts = senders[index], receivers[index], shifts[index]
        # Of what was found: a search without room for all does not know which pairs are missing.
        needed = -(-needed // 2)
    last = positions.shape[0] - 1
    return replace(
        old,
        senders=jnp.where(mask, senders, last),
        receivers=jnp.where(mask, receivers, last),
        shifts=jnp.where(mask[:, None], shifts, 0),
        mask=mask,
        reference=positions,
        rebuilds=old.rebuilds + 1,
        candidates_needed=jnp.maximum(old.candidates_needed, needed),
        cells_overflow=old.cells_overflow | overflow | ~_minimum_image_holds(plan, old.box),
    )


def current_graph(
    plan: NeighborPlan,
    neighbors: Neighbors,
    numbers: Species,
    positions: Positions,
    cell: Float[Array, "3 3"],
) -> tuple[AtomGraph, Neighbors]:
    """The graph of the pairs within the cutoff now, and the list with its counts.

    Args:
      plan: sizes.
      neighbors: an up-to-date list, see :func:`update`.
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom.
      cell: lattice vectors as rows, in Angstrom; zeros for a molecule.
    """
    count = positions.shape[0]
    vectors = positions[neighbors.senders] - positions[neighbors.receivers]
    if any(plan.pbc):
        vectors += sum(neighbors.shifts[:, k, None] * cell[k] for k in range(3) if plan.pbc[k])
    near = neighbors.mask & (jnp.sum(vectors**2, axis=-1) < plan.cutoff**2)
    senders, receivers, shifts, mask = (
        neighbors.senders,
        neighbors.receivers,
        neighbors.shifts,
        near,
    )
    if plan.edges < plan.candidates:
        index, mask, needed = first_true(near, plan.edges)
        senders = jnp.where(mask, senders[index], count - 1)
        receivers = jnp.where(mask, receivers[index], count - 1)
        shifts = jnp.where(mask[:, None], shifts[index], 0)
        most = jnp.maximum(neighbors.edges_needed, needed)
        neighbors = replace(neighbors, edges_needed=most)
    graph = AtomGraph(
        numbers=numbers,
        positions=positions,
        cell=cell[None],
        graph_index=jnp.zeros(count, jnp.int32),
        senders=senders,
        receivers=receivers,
        shifts=shifts,
        node_mask=jnp.ones(count, bool),
        edge_mask=mask,
        graph_mask=jnp.ones(1, bool),
        halved=plan.half,
    )
    return graph, neighbors


def default_skin(num_atoms: int, pbc: HostPbc) -> float:
    """Skin in Angstrom by the size of the system.

    The pairs of a small molecule are cheaper to keep than to list anew, those of a small cell to
    list at every step than to manage. In larger systems the time of a step is flat between 0.5
    and 1.5 Angstrom (``benchmarks/md_scaling.py skin``).
    """
    if any(pbc):
        return 0.0 if num_atoms <= FEW_ATOMS else 1.0
    few = FEW_ATOMS if backend.on_cpu() else FEW_ATOMS_OF_ACCELERATOR
    return math.inf if num_atoms <= few else 1.0


def _with_room(plan: NeighborPlan, atoms: int, candidates: int, edges: int) -> NeighborPlan:
    """The plan with buckets for these counts and a margin, and never less than before."""
    # An atom has every copy of all others, and of itself all but one.
    most = plan.counted(max(1, atoms * (atoms * math.prod(plan.replicas) - 1)))

    def room(count: int) -> int:
        return min(bucket(math.ceil(MARGIN * count) + 8, 16 if plan.half else 32), most)

    outer = max(plan.candidates, room(candidates))
    inner = min(max(plan.edges, room(edges)), outer)
    # Picking the edges costs more than it saves where nearly all candidates are edges, and where
    # an accelerator waits for kernels and not for a molecule's pairs, if an architecture asks
    # little of a pair: those that are ``pairwise`` do.
    waits = plan.half and math.isinf(plan.skin) and not backend.on_cpu()
    return replace(plan, candidates=outer, edges=outer if waits or inner > 0.9 * outer else inner)


def _minimum_image_holds(plan: NeighborPlan, box: Float[Array, "3 3"]) -> Bool[Array, ""]:
    enough = heights(box) * jnp.asarray(plan.replicas, box.dtype) > 2 * (plan.cutoff + plan.skin)
    return jnp.all(enough | ~jnp.asarray(plan.pbc))


def _all_pairs(
    plan: NeighborPlan,
    positions: Positions,
    box: Float[Array, "3 3"],
    node_mask: AtomMask | None,
) -> tuple[Array, Array, Array, Array, Array]:
    """Candidates from every pair of an atom and a copy of an atom, by minimum image."""
    count = positions.shape[0]
    copies = np.stack(np.meshgrid(*map(np.arange, plan.replicas), indexing="ij"), -1).reshape(-1, 3)
    whole = box * jnp.asarray(plan.replicas, box.dtype)[:, None]
    placed = positions[None] + (jnp.asarray(copies, box.dtype) @ box)[:, None]
    fractional = placed.reshape(-1, 3) @ inverse(whole)
    # Columns are padded to whole words of bits.
    columns = count * len(copies)
    bits = min(columns, WORD)
    padded = jnp.pad(fractional, ((0, -columns % bits), (0, 0))).reshape(-1, bits, 3)
    # One array a component, so that distance and comparison make one loop.
    steps = [padded[None, :, :, k] - fractional[:count, None, None, k] for k in range(3)]
    steps = [s - jnp.round(s) if plan.pbc[k] else s for k, s in enumerate(steps)]
    squares = (sum(steps[k] * whole[k, x] for k in range(3)) ** 2 for x in range(3))
    column = jnp.arange(padded.shape[0] * bits, dtype=jnp.int32).reshape(padded.shape[:2])
    row = jnp.arange(count, dtype=jnp.int32)[:, None, None]
    other = (column < columns) & (column != row)
    if node_mask is not None:
        placed_mask = jnp.pad(jnp.tile(node_mask, len(copies)), (0, -columns % bits))
        other &= placed_mask.reshape(column.shape) & node_mask[:, None, None]
    words = pack((sum(squares) < (plan.cutoff + plan.skin) ** 2) & other)
    index, mask, needed = set_bits(words.reshape(-1), bits, plan.found)
    i, j = index // column.size, index % column.size
    wraps = -jnp.round(fractional[j] - fractional[i])
    wraps = jnp.where(jnp.asarray(plan.pbc), wraps, 0).astype(jnp.int32)
    shifts = jnp.asarray(copies, jnp.int32)[j // count] + wraps * jnp.asarray(
        plan.replicas, jnp.int32
    )
    return j % count, i, shifts, mask, needed
