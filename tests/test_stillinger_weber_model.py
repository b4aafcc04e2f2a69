"""Silicon as a potential: equal to the labels of JAX-MD's energy, and nothing at the cutoff."""

import numpy as np
import pytest

from mlffjax.md.stillinger_weber import silicon_frames
from mlffjax.neighbors import atom_graph
from mlffjax.stillinger_weber_model import stillinger_weber

POTENTIAL = stillinger_weber(dtype=np.float64)


def test_energy_forces_and_stress_are_those_of_jax_md():
    frame = silicon_frames(1, seed=5)[0]
    # Edges beyond the cutoff count nothing.
    graph = atom_graph(
        frame.numbers, frame.positions, frame.cell, frame.pbc, POTENTIAL.cutoff + 0.5, np.float64
    )
    prediction = POTENTIAL.energy_forces_stress(graph)
    assert prediction.forces is not None
    assert prediction.stress is not None
    # JAX-MD adds 1e-7 to the lengths of the vectors that an angle is between.
    assert float(prediction.energy[0]) == pytest.approx(frame.energy, abs=2e-5)
    np.testing.assert_allclose(prediction.forces, frame.forces, atol=1e-5)
    np.testing.assert_allclose(prediction.stress[0], frame.stress, atol=1e-7)


@pytest.mark.parametrize("gap", [-1e-3, 0.0, 1e-3])
def test_pair_at_the_cutoff_has_neither_energy_nor_force(gap):
    positions = np.array([[0.0, 0, 0], [POTENTIAL.cutoff + gap, 0, 0]])
    graph = atom_graph(
        np.array([14, 14]), positions, np.zeros((3, 3)), np.zeros(3, bool), 5.0, np.float64
    )
    prediction = POTENTIAL.energy_forces(graph)
    assert abs(float(prediction.energy[0])) < 1e-12
    np.testing.assert_allclose(prediction.forces, 0, atol=1e-9)
