"""How many edges and atoms are computed at a time changes memory and no result."""

from dataclasses import replace

import helpers
import jax
import numpy as np
import pytest
from systems import water_box

from mlffjax.models import ARCHITECTURES, equiformer_v2

#: Not a divisor of the number of edges, so that the last block is filled up.
FEW, ALL = 37, 1_000_000


def results(module, edges_per_block):
    """Energy and forces, and the memory of their program."""
    model = helpers.Model(module)
    graph = model.graph(water_box())
    potential = replace(model.potential, edges_per_block=edges_per_block)
    # A function of its own: the blocks of atoms are no part of what a traced one is kept by.
    program = jax.jit(lambda p, g: p.energy_forces(g)).lower(potential, graph).compile()
    prediction = program(potential, graph)
    buffers = program.memory_analysis().temp_size_in_bytes
    return (prediction.energy, prediction.forces), buffers, len(graph.senders)


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


#: The others take a minute together.
QUICK = ("painn", "schnet")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(ARCHITECTURES)
    ],
)
def test_blocks_of_edges(name):
    blocks, less, edges = results(helpers.small(name), FEW)
    whole, more, _ = results(helpers.small(name), ALL)
    assert edges > 2 * FEW
    assert np.abs(whole[1]).max() > 1e-4
    assert_same(blocks, whole)
    assert less < more


@pytest.mark.slow
def test_blocks_of_atoms(monkeypatch):
    module = helpers.small("equiformer_v2").clone(feed_forward_channels=64)
    monkeypatch.setattr(equiformer_v2, "ATOMS_PER_BLOCK", ALL)
    whole, more, _ = results(module, FEW)
    monkeypatch.setattr(equiformer_v2, "ATOMS_PER_BLOCK", 4)
    blocks, less, _ = results(module, FEW)
    assert_same(blocks, whole)
    assert less < more
