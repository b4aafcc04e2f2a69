"""Sizes of the neighbour lists of replicas: one list has room for that of any of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlffjax.data.frames import Frame
from mlffjax.graph import bucket
from mlffjax.md.cell_lists import common_cell_lists, roomier
from mlffjax.md.device_neighbors import (
    MARGIN,
    NeighborPlan,
    Neighbors,
    plan_neighbors,
    replicas_needed,
    with_cheaper,
)
from mlffjax.neighbors import complete_cell, neighbor_list
from mlffjax.types import HostVectors


def plan_replicas(
    frames: Sequence[Frame], cutoff: float, skin: float, *, half: bool = False
) -> tuple[NeighborPlan, int]:
    """The plan of the list of one replica, and room for the edges of all together.

    Args:
      frames: where each replica starts, all with the same periodic directions.
      cutoff: in Angstrom.
      skin: in Angstrom.
      half: keep each pair once, for an architecture that is ``pairwise``.

    Raises:
      ValueError: as :func:`mlffjax.neighbors.neighbor_list`.
    """
    plans: dict[int, NeighborPlan] = {}
    edges: dict[int, int] = {}
    distinct = {id(frame): frame for frame in frames}.values()
    for frame in distinct:
        place = frame.positions, frame.cell, frame.pbc
        plans[id(frame)] = plan_neighbors(*place, cutoff, skin, half=half)
        count = len(neighbor_list(*place, cutoff).senders)
        edges[id(frame)] = -(-count // 2) if half else count
    plan = next(iter(plans.values()))
    candidates = max(plan.candidates for plan in plans.values())
    copies = np.array([plan.replicas for plan in plans.values()])
    plan = replace(plan, replicas=_most(copies), candidates=candidates, edges=candidates)
    most = sum(plans[id(frame)].candidates for frame in frames)
    together = min(room(sum(edges[id(frame)] for frame in frames)), most)
    if math.isinf(skin):
        return plan, together
    places = [(f.positions, complete_cell(f.cell, f.pbc)) for f in distinct]
    cells = common_cell_lists(places, plan.pbc, cutoff + skin)
    atoms = max(len(frame.numbers) for frame in distinct)
    return with_cheaper(plan, cells, atoms), together


def enlarge_replicas(
    plan: NeighborPlan, edges: int, lists: Neighbors, positions: Sequence[HostVectors]
) -> tuple[NeighborPlan, int]:
    """The plan and the room for edges after an overflow.

    Args:
      plan: whose room did not suffice.
      edges: room for the edges of all replicas.
      lists: of all replicas, when one overflowed.
      positions: of each replica ``[atoms, 3]`` in Angstrom.
    """
    candidates, needed = int(lists.candidates_needed.max()), int(lists.edges_needed.max())
    # Of cells that move, the narrowest shape met so far.
    pbc, radius = np.asarray(plan.pbc), plan.cutoff + plan.skin
    boxes = np.asarray(lists.box, np.float64)
    copies = [plan.replicas, *(replicas_needed(box, pbc, radius) for box in boxes)]
    plan = replace(plan, replicas=_most(np.array(copies)))
    if candidates > plan.candidates:
        plan = replace(plan, candidates=room(candidates), edges=room(candidates))
    if plan.cells is not None and bool(lists.cells_overflow.any()):
        fresh = common_cell_lists(list(zip(positions, boxes, strict=True)), plan.pbc, radius)
        plan = replace(plan, cells=roomier(plan.cells, fresh))
    return plan, room(needed) if needed > edges else edges


def room(count: int) -> int:
    """Room for so many pairs and a margin."""
    return bucket(int(np.ceil(MARGIN * count)) + 8, 32)


def _most(copies: np.ndarray) -> tuple[int, int, int]:
    a, b, c = copies.max(axis=0).tolist()
    return a, b, c
