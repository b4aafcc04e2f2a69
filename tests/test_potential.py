"""The potential: elements, baseline, scale and shift, dtype, stress of molecules, errors."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import molecule, silicon

from mlffjax.graph import AtomGraph, EdgeGraph, half
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.models.schnet import SchNet
from mlffjax.neighbors import atom_graph
from mlffjax.nn import backend
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.potential import Potential

ELEMENTS = (8, 1, 14, 6)  # not in order, on purpose
KEY = jax.random.key(0)


class PairSprings(Architecture):
    """Half of ``(|r|^2 - 1)^2`` a pair, times a parameter of the centre's species."""

    cutoff: float = 3.0

    @property
    def isolated_atom_is_zero(self) -> bool:
        return True

    def setup(self) -> None:
        self.strength = self.param(
            "strength", lambda _, n: jnp.arange(1.0, n + 1), self.num_elements
        )

    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        squared = (graph.vectors**2).sum(-1)
        density = sum_to_receivers(0.5 * (squared - 1) ** 2, graph)
        return AtomwiseOutput(energy=self.strength[graph.species] * density)


class DirectForces(PairSprings):
    """Forces from an output head: the sum of the edge vectors."""

    @property
    def direct_forces(self) -> bool:
        return True

    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        return replace(super().__call__(graph), forces=sum_to_receivers(graph.vectors, graph))


def graph_of(atoms, dtype=np.float64) -> AtomGraph:
    return atom_graph(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, 3.0, dtype)


def potential(module: Architecture | None = None, **settings) -> Potential:
    module = PairSprings() if module is None else module
    return Potential.init(module, ELEMENTS, KEY, dtype=jnp.float64, **settings)


def test_elements_are_sorted_with_their_energies() -> None:
    made = potential(baseline=[8.5, 1.5, 14.5, 6.5])
    assert made.elements == (1, 6, 8, 14)
    assert made.baseline == (1.5, 6.5, 8.5, 14.5)
    assert made.module.num_elements == 4
    assert made.baseline_energy(np.array([1, 1, 8])) == 11.5


def test_species_follow_the_elements() -> None:
    """The parameter of each atom is that of its element: strength 1 for H, ..., 4 for Si."""
    atoms = silicon()
    energy = potential().energy(graph_of(atoms)).node_energy
    graph = graph_of(atoms)
    lengths = np.linalg.norm(
        atoms.positions[graph.senders]
        + graph.shifts @ atoms.cell.array
        - atoms.positions[graph.receivers],
        axis=1,
    )
    pairs = 0.5 * (lengths**2 - 1) ** 2
    expected = [f * pairs[graph.receivers == i].sum() for i, f in ((0, 4), (1, 3))]
    np.testing.assert_allclose(energy, expected, rtol=1e-12)


def test_baseline_is_apart_from_the_interaction() -> None:
    graph = graph_of(molecule())
    plain = potential().energy(graph)
    based = potential(baseline=[-1000.0, -10.0, 0.0, -100.0]).energy(graph)
    np.testing.assert_array_equal(based.energy, plain.energy)
    assert float(based.baseline[0]) == -1000 - 60 - 200
    assert float(plain.baseline[0]) == 0


def test_scale_and_shift() -> None:
    graph = graph_of(molecule())
    plain = potential().energy_forces(graph)
    made = potential(scale=3.0, shift=[8.0, 1.0, 14.0, 6.0]).energy_forces(graph)
    expected = 3 * plain.node_energy + np.array([6, 6, 8] + [1] * 6)
    np.testing.assert_allclose(made.node_energy, expected, rtol=1e-12)
    np.testing.assert_allclose(made.forces, 3 * plain.forces, rtol=1e-12)


def test_three_faces_agree() -> None:
    graph = graph_of(silicon())
    made = potential()
    energy, forces, stress = (
        method(graph) for method in (made.energy, made.energy_forces, made.energy_forces_stress)
    )
    np.testing.assert_array_equal(energy.energy, stress.energy)
    np.testing.assert_array_equal(forces.forces, stress.forces)
    assert energy.forces is None
    assert forces.stress is None
    np.testing.assert_allclose(stress.virial / silicon().get_volume(), stress.stress, rtol=1e-12)
    np.testing.assert_allclose(stress.forces.sum(0), 0, atol=1e-9)


def test_tension_is_positive() -> None:
    """Stretched springs pull the cell together: the energy rises with strain."""
    stress = potential().energy_forces_stress(graph_of(silicon())).stress
    assert np.trace(stress[0]) > 0


def test_stress_of_a_molecule_is_unknown_not_zero() -> None:
    prediction = potential().energy_forces_stress(graph_of(molecule()))
    assert np.isnan(prediction.stress).all()
    assert np.isfinite(prediction.virial).all()


def test_direct_forces_come_from_the_head() -> None:
    graph = graph_of(silicon())
    made = potential(DirectForces(), scale=2.0)
    plain = potential().energy_forces_stress(graph)
    direct, stressed = made.energy_forces(graph), made.energy_forces_stress(graph)
    expected = np.zeros((2, 3))
    positions = silicon().positions
    vectors = (
        positions[graph.senders] + graph.shifts @ silicon().cell.array - positions[graph.receivers]
    )
    np.add.at(expected, graph.receivers, 2 * vectors)
    np.testing.assert_allclose(direct.forces, expected, atol=1e-12)
    np.testing.assert_array_equal(direct.forces, stressed.forces)
    np.testing.assert_allclose(stressed.stress, 2 * plain.stress, rtol=1e-12)


def test_astype() -> None:
    made = potential()
    single = made.astype(jnp.float32)
    assert (made.dtype, single.dtype) == (jnp.float64, jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        result = single.energy_forces_stress(graph_of(silicon(), np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {np.dtype(np.float32)}


def test_potential_is_a_pytree_of_its_parameters() -> None:
    made = potential(baseline=[1.0, 2.0, 3.0, 4.0])
    leaves, tree = jax.tree.flatten(made)
    assert len(leaves) == 1
    assert made.num_parameters == 4
    assert made.cutoff == 3.0
    again = jax.tree.unflatten(tree, leaves)
    assert (again.elements, again.baseline) == (made.elements, made.baseline)


@pytest.mark.parametrize(
    ("elements", "settings", "message"),
    [
        ((1, 1), {}, r"got the elements \[1, 1\]; expected distinct"),
        ((), {}, "expected distinct"),
        ((1, 8), {"baseline": [1.0]}, "got 1 baseline energies for 2 elements"),
        ((1, 8), {"shift": [1.0, 2.0, 3.0]}, "got 3 shift energies for 2 elements"),
    ],
)
def test_errors_of_construction(elements, settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Potential.init(PairSprings(), elements, KEY, **settings)


def test_one_edge_of_each_pair_is_refused_where_both_are_wanted() -> None:
    graph = half(graph_of(molecule()))
    with pytest.raises(ValueError, match="got one edge of each pair for PairSprings; expected"):
        potential().energy(graph)


def test_unknown_element() -> None:
    made = potential()
    made.check_elements(np.array([1, 8]))
    with pytest.raises(ValueError, match=r"\[7, 9\].*not trained on"):
        made.check_elements(np.array([9, 7, 1]))
    with pytest.raises(ValueError, match="not trained on"):
        made.baseline_energy(np.array([2]))


def test_edges_per_block_changes_memory_and_nothing_else() -> None:
    """Few edges at a time are computed again in the reverse pass, many are kept."""
    whole = potential(SchNet(num_features=64, num_layers=2, cutoff=3.0))
    whole = replace(whole, edges_per_block=100_000)
    shifted = jax.tree.map(lambda x: x + 0.1, whole.params)  # a new SchNet is zero
    whole = replace(whole, params=shifted)
    blocks = replace(whole, edges_per_block=128)
    graph = graph_of(silicon().repeat((6, 5, 5)))
    program = jax.jit(Potential.energy_forces)
    kept, recomputed = (program.lower(p, graph).compile() for p in (whole, blocks))
    one, two = kept(whole, graph), recomputed(blocks, graph)
    np.testing.assert_allclose(one.energy, two.energy, rtol=1e-12)
    np.testing.assert_allclose(one.forces, two.forces, rtol=1e-9, atol=1e-9)
    assert np.abs(one.forces).max() > 0.1
    memory = [p.memory_analysis().temp_size_in_bytes for p in (kept, recomputed)]
    assert memory[0] > 2 * memory[1]


def test_an_unknown_element_is_an_error_or_not_a_number():
    atoms = molecule()
    model, known = potential(), graph_of(atoms)
    numbers = np.array(atoms.numbers)
    for other in (26, 7, 2):  # above all that are known, and between them
        numbers[0] = other
        strange = replace(known, numbers=np.asarray(numbers, np.int32))
        with pytest.raises(ValueError, match=rf"got the atomic numbers \[{other}\]"):
            model.energy_forces(strange)
        prediction = jax.jit(Potential.energy_forces)(model, strange)
        assert np.isnan(prediction.energy).all()
        assert np.isnan(prediction.forces[0]).any()
    assert np.isfinite(jax.jit(Potential.energy_forces)(model, known).forces).all()


def test_positions_of_another_dtype_are_refused():
    with pytest.raises(ValueError, match="got positions in float32 for parameters in float64"):
        potential().energy(graph_of(molecule(), np.float32))


def test_blocks_without_edges_are_refused():
    with pytest.raises(ValueError, match="got 0 edges a block"):
        potential().replace(edges_per_block=0).energy(graph_of(molecule()))


def test_the_sum_of_many_atoms_keeps_its_digits():
    count = 20_000
    positions = np.zeros((count, 3))
    positions[:, 0] = 10.0 * np.arange(count)
    off = np.zeros(3, bool)
    graph = atom_graph(np.full(count, 6), positions, np.zeros((3, 3)), off, 3.0)
    module = Potential.init(PairSprings(), ELEMENTS, KEY, shift=[-3.7] * 4)
    energy = float(jax.jit(Potential.energy)(module, graph).energy[0])
    exact = float(np.float32(-3.7)) * count
    assert abs(energy - exact) <= 2 * np.spacing(np.float32(abs(exact)))


def test_matrix_products_have_all_digits_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    model = Potential.init(SchNet(num_features=8, num_layers=1, num_basis=4), ELEMENTS, KEY)
    graph = graph_of(molecule(), np.float32)

    def precisions() -> set[str]:
        text = str(jax.make_jaxpr(Potential.energy_forces)(model, graph))
        return set(re.findall(r"precision=(.*)", text))

    assert precisions() == {"(Precision.HIGHEST, Precision.HIGHEST)"}
    with jax.default_matmul_precision("tensorfloat32"):
        assert not any("HIGHEST" in found for found in precisions())
