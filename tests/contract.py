"""The contract of an architecture, one check a property.

Each ``check_*`` raises AssertionError with the property in its message. ``test_helpers.py``
shows for each of them a module on which it does.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from helpers import CUTOFF, ELEMENTS, Model, assert_close, assert_finite, padded, rotation, unpadded
from systems import molecule, one_atom_cell, poisoned, silicon, slab, water_box

from mlffjax.graph import batch
from mlffjax.potential import Potential, Prediction, _smallest_graph

# Symmetries


def _transformed(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    return Atoms(
        atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc
    )


def _assert_transforms(model: Model, matrix: np.ndarray, what: str) -> None:
    for atoms in (molecule(), silicon()):
        before, after = model.predict(atoms), model.predict(_transformed(atoms, matrix))
        tolerance = model.tolerance
        scale = float(np.abs(before.node_energy).max()) + 1e-6
        assert_close(after.node_energy, before.node_energy, f"{what}: energy", tolerance, scale)
        assert_close(after.forces, before.forces @ matrix.T, f"{what}: forces", tolerance)
        assert_close(after.stress, matrix @ before.stress @ matrix.T, f"{what}: stress", tolerance)


def check_responds(model: Model) -> None:
    """Energy and forces depend on the structure, so that no other check is empty."""
    first, second = model.predict(molecule(0)), model.predict(molecule(1))
    assert_finite((first.energy, first.forces), "molecule")
    assert np.abs(first.energy - second.energy).max() > 1e-6, "energy ignores the structure"
    assert np.abs(first.forces).max() > 1e-6, "forces vanish"
    stress = model.predict(silicon()).stress
    assert np.abs(stress).max() > 1e-8, "stress vanishes"


def check_rotation(model: Model) -> None:
    """Energies are invariant, forces and stress turn with the structure."""
    _assert_transforms(model, rotation(), "rotation")


def check_reflection(model: Model) -> None:
    """Mirror images are alike, or the module declares, and truly, that they are not."""
    matrix = rotation() @ np.diag([1.0, 1.0, -1.0])
    if model.module.mirror_symmetric:
        _assert_transforms(model, matrix, "reflection")
        return
    before, after = (model.predict(a) for a in (molecule(), _transformed(molecule(), matrix)))
    assert np.abs(after.energy - before.energy).max() > 1e-8 * np.abs(before.energy).max(), (
        "reflection: mirror_symmetric is declared false, but mirror images have one energy"
    )


def check_translation(model: Model) -> None:
    """Moving everything, and moving single atoms by lattice vectors, changes nothing."""
    for atoms in (molecule(), silicon(), slab()):
        before = model.predict(atoms)
        moved = atoms.copy()
        moved.positions += [1.3, -20.7, 3.1]
        _assert_same(model.predict(moved), before, "translation")
        wrapped = atoms.copy()
        images = np.random.default_rng(0).integers(-2, 3, (len(atoms), 3)) * atoms.pbc
        wrapped.positions += images @ atoms.cell.array
        _assert_same(model.predict(wrapped), before, "lattice translation")


def check_permutation(model: Model) -> None:
    """The order of the atoms has no meaning."""
    for atoms in (molecule(), water_box()):
        order = np.random.default_rng(0).permutation(len(atoms))
        before, after = model.predict(atoms), model.predict(atoms[order])
        assert_close(after.node_energy, before.node_energy[order], "permutation: energy", 1e-9)
        assert_close(after.forces, before.forces[order], "permutation: forces", 1e-9)


def _assert_same(got: Prediction, expected: Prediction, what: str, tolerance: float = 1e-9) -> None:
    for name in ("energy", "node_energy", "forces", "virial", "stress"):
        assert_close(getattr(got, name), getattr(expected, name), f"{what}: {name}", tolerance)


# Derivatives


def check_forces_are_gradient(model: Model, step: float = 1e-4) -> None:
    """Forces are minus the central differences of the energy."""
    for atoms in (molecule(), slab()):
        forces = model.predict(atoms).forces
        numeric = np.zeros_like(forces)
        for index in np.ndindex(*forces.shape):
            numeric[index] = -_difference(model, atoms, _moved(index), step)
        assert_close(forces, numeric, "forces and -dE/dr", 1e-5)


def check_stress_is_gradient(model: Model, step: float = 1e-4) -> None:
    """Stress is the central difference of the energy by the strain over the volume."""
    for atoms in (silicon(), slab()):
        stress = model.predict(atoms).stress[0]
        numeric = np.zeros((3, 3))
        for row, column in np.ndindex(3, 3):
            slope = _difference(model, atoms, _strained(row, column), step)
            numeric[row, column] = slope / atoms.get_volume()
        assert_close(stress, numeric, "stress and dE/dstrain/V", 1e-5)


def _difference(
    model: Model, atoms: Atoms, change: Callable[[Atoms, float], Atoms], step: float
) -> float:
    above, below = (model.predict(change(atoms, s)).energy[0] for s in (step, -step))
    return (above - below) / (2 * step)


def _moved(index: tuple[int, ...]) -> Callable[[Atoms, float], Atoms]:
    def change(atoms: Atoms, step: float) -> Atoms:
        atoms = atoms.copy()
        atoms.positions[index] += step
        return atoms

    return change


def _strained(row: int, column: int) -> Callable[[Atoms, float], Atoms]:
    def change(atoms: Atoms, step: float) -> Atoms:
        strain = np.zeros((3, 3))
        strain[row, column] += step / 2
        strain[column, row] += step / 2
        return _transformed(atoms, np.eye(3) + strain)

    return change


def check_parameter_gradient(model: Model, step: float = 1e-5) -> None:
    """The gradient of a force loss is finite and, for each array of parameters, the derivative."""
    graph = batch([model.graph(a) for a in (molecule(), silicon())])
    loss, gradient = model.force_loss(graph)
    assert_finite(gradient, "gradient of a force loss")
    named, tree = jax.tree_util.tree_flatten_with_path(model.potential.params)
    leaves = [np.asarray(leaf) for _, leaf in named]
    random = np.random.default_rng(5)
    for k, ((path, leaf), slope) in enumerate(zip(named, jax.tree.leaves(gradient), strict=True)):
        along = random.normal(size=leaf.shape)

        def shifted(sign: float, k: int = k, along: np.ndarray = along) -> float:
            moved = [*leaves[:k], leaves[k] + sign * step * along, *leaves[k + 1 :]]
            return float(model.force_loss(graph, jax.tree.unflatten(tree, moved))[0])

        numeric = (shifted(1) - shifted(-1)) / (2 * step)
        # What the gradient has along a random direction, and the rounding of the losses.
        scale = float(np.linalg.norm(slope)) + 1e-3 * float(loss)
        name = f"gradient of a force loss by {jax.tree_util.keystr(path)}"
        assert_close((slope * along).sum(), numeric, name, 1e-4, scale)


def check_hessian(model: Model, step: float = 1e-5) -> None:
    """Forward over reverse differentiation gives the derivative of the forces."""
    atoms = molecule()
    direction = np.random.default_rng(0).normal(size=(len(atoms), 3))
    product = model.hessian_vector(model.graph(atoms), direction)
    assert_finite(product, "Hessian")
    above, below = atoms.copy(), atoms.copy()
    above.positions += step * direction
    below.positions -= step * direction
    numeric = (model.predict(above).forces - model.predict(below).forces) / (2 * step)
    assert_close(product, numeric, "Hessian and difference of forces", 1e-4)


# Cutoff and limits


def check_smooth_at_cutoff(model: Model) -> None:
    """Energy and forces are continuous as a pair crosses the cutoff, or declared not to be."""
    jumps = [_jump(model, cluster) for cluster in (_cluster_at, _pair_at)]
    if model.module.smooth:
        for energy, forces in jumps:
            assert energy < 1e-4, f"energy jumps at the cutoff by {energy:.1e} of its change"
            assert forces < 1e-3, f"forces jump at the cutoff by {forces:.1e} of their change"
        return
    assert max(max(jump) for jump in jumps) > 1e-3, "smooth is declared false, but nothing jumps"


def _jump(model: Model, cluster: Callable[[float], Atoms]) -> tuple[float, float]:
    """Change across the cutoff in 2e-6 Angstrom, over the change in 0.8 Angstrom."""

    def change(name: str, width: float) -> float:
        inside, outside = (model.predict(cluster(CUTOFF + s * width)) for s in (-1, 1))
        return float(np.abs(getattr(inside, name) - getattr(outside, name)).max())

    ratios = []
    for name in ("energy", "forces"):
        wide = change(name, 0.4)
        assert wide > 1e-9, f"an atom that crosses the cutoff does not change the {name}"
        ratios.append(change(name, 1e-6) / wide)
    return ratios[0], ratios[1]


def _pair_at(distance: float) -> Atoms:
    return Atoms("CO", [[0.0, 0.0, 0.0], distance * np.array([0.6, 0.48, 0.64])])


def _cluster_at(distance: float) -> Atoms:
    """A pair at ``distance``, each with a neighbour of its own that does not move."""
    along = np.array([0.6, 0.48, 0.64])
    third = CUTOFF * along + [-0.9, 0.4, 0.5]
    return Atoms("COHH", [[0.0, 0.0, 0.0], distance * along, [1.0, 0.3, -0.2], third])


def check_isolated_atom(model: Model) -> None:
    """An atom alone: finite energy, zero when so declared, no force, finite gradients."""
    for number in ELEMENTS:
        graph = model.graph(Atoms([number], [[0.1, 0.2, 0.3]]))
        prediction = model.predict(graph)
        assert_finite(prediction.energy, "energy of an isolated atom")
        assert_finite(prediction.forces, "forces of an isolated atom")
        assert not prediction.forces.any(), "an isolated atom has a force"
        if model.module.isolated_atom_is_zero:
            energy = float(prediction.energy[0])
            assert energy == 0, f"isolated_atom_is_zero is declared, but the energy is {energy}"
        loss, gradient = model.force_loss(graph)
        assert_finite(gradient, "gradient of an isolated atom")
    # The same without any edge, not even a padded one.
    got, gradient = model.force_loss(graph, padding=False)
    assert_finite(gradient, "gradient of an isolated atom without padding")
    assert_close(got, loss, "loss of an isolated atom without padding", 1e-9)


def check_extensive(model: Model) -> None:
    """Two distant molecules have the sum of their energies, or declared, and truly, not."""
    one, two = molecule(0), molecule(1)
    two.positions += [50.0, 0, 0]
    together = model.predict(one + two)
    alone = [model.predict(one), model.predict(two)]
    nodes = np.concatenate([p.node_energy for p in alone])
    if model.module.extensive:
        assert_close(together.node_energy, nodes, "extensivity: energy", 1e-9)
        forces = np.concatenate([p.forces for p in alone])
        assert_close(together.forces, forces, "extensivity: forces", 1e-9)
        return
    assert np.abs(together.node_energy - nodes).max() > 1e-8 * np.abs(nodes).max(), (
        "extensive is declared false, but distant molecules do not see each other"
    )


def check_supercell(model: Model) -> None:
    """A cell repeated 2x2x2 times: 8 times the energy, the same forces and stress.

    In the small cells every atom, or every second one, is a neighbour of its own images.
    """
    for atoms in (silicon(), one_atom_cell()):
        one, eight = model.predict(atoms), model.predict(atoms.repeat(2))
        assert_close(eight.energy, 8 * one.energy, "supercell: energy", 1e-9)
        assert_close(eight.forces, np.tile(one.forces, (8, 1)), "supercell: forces", 1e-9, 1.0)
        assert_close(eight.stress, one.stress, "supercell: stress", 1e-9)


# Batches, padding, dtype, compilation


def check_batch(model: Model) -> None:
    """A batch gives what its structures give one by one."""
    graphs = [model.graph(atoms) for atoms in (molecule(), silicon(), slab())]
    together = model.predict(batch(graphs))
    alone = [model.predict(graph) for graph in graphs]
    for name in ("energy", "node_energy", "forces", "virial", "stress"):
        expected = np.concatenate([getattr(p, name) for p in alone])
        assert_close(getattr(together, name), expected, f"batch: {name}", 1e-9)


def check_broken_structure(model: Model) -> None:
    """A structure that is no longer finite changes nothing in the others of its batch."""
    first, second = model.graph(molecule()), model.graph(silicon())
    lost = second.replace(positions=np.full_like(second.positions, np.nan))
    got, expected = (model.predict(batch([first, other])) for other in (lost, second))
    assert np.isnan(got.energy[1]), "broken structure: its own energy is finite"
    for name, count in (("energy", 1), ("stress", 1), ("forces", len(first.numbers))):
        one, two = (getattr(p, name)[:count] for p in (got, expected))
        assert_close(one, two, f"broken structure: {name} of another", 1e-9)


def check_padding(model: Model) -> None:
    """Whatever stands in padded entries changes no result and no gradient."""
    graph = batch([model.graph(atoms) for atoms in (molecule(), silicon())])
    clean = padded(graph)
    dirty = poisoned(clean)
    got, expected = (unpadded(model.predict_padded(g), graph.size) for g in (dirty, clean))
    _assert_same(got, expected, "padding")
    outside = model.predict_padded(dirty)
    assert not outside.forces[graph.size.atoms :].any(), "padding: padded atoms have forces"
    assert not outside.energy[graph.size.graphs :].any(), "padding: padded graphs have energies"
    gradients = [model.force_loss(g)[1] for g in (dirty, clean)]
    for one, two in zip(*(jax.tree.leaves(g) for g in gradients), strict=True):
        assert_close(one, two, "padding: gradient of a force loss", 1e-9)


def check_dtype(model: Model) -> None:
    """Parameters and results have the dtype of the inputs, without any implicit promotion."""
    graph = padded(model.graph(silicon()))
    for dtype in (jnp.float32, jnp.float64):
        cast = graph.replace(positions=graph.positions.astype(dtype), cell=graph.cell.astype(dtype))
        try:
            with jax.numpy_dtype_promotion("strict"):
                drawn = jax.eval_shape(model.module.init, jax.random.key(0), _smallest_graph(dtype))
                result = jax.eval_shape(
                    Potential.energy_forces_stress, model.potential.astype(dtype), cast
                )
        except ValueError as error:  # jax has no public name for its promotion error
            raise AssertionError(f"dtype: in {dtype.__name__}: {error}") from error
        for path, leaf in jax.tree_util.tree_leaves_with_path((drawn, result)):
            name = jax.tree_util.keystr(path)
            assert leaf.dtype == dtype, f"dtype: {name} is {leaf.dtype}, not {dtype.__name__}"


def check_float32(model: Model) -> None:
    """Single precision gives the numbers of double precision to its own accuracy.

    Its graph has no padding, so that the size of the padding is seen to have no influence.
    """
    graph = batch([model.graph(atoms) for atoms in (molecule(), silicon())])
    single = graph.replace(
        positions=graph.positions.astype(np.float32), cell=graph.cell.astype(np.float32)
    )
    with jax.numpy_dtype_promotion("strict"):
        got = jax.jit(Potential.energy_forces)(model.potential.astype(jnp.float32), single)
    expected = model.predict(graph)
    assert_close(got.node_energy, expected.node_energy, "float32: energy", 1e-3)
    assert_close(got.forces, expected.forces, "float32: forces", 1e-3)


def check_no_recompilation(model: Model) -> None:
    """Structures of one padded size share one program."""
    model.predict(molecule())
    traces = model.traces
    for atoms in (molecule(1), silicon(), slab(), one_atom_cell()):
        model.predict(atoms)
    assert model.traces == traces, "another program was compiled for the same padded size"
