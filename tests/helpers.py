"""Small models of all architectures, as the checks of ``contract.py`` and other tests take them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlffjax.graph import AtomGraph, GraphSize, pad
from mlffjax.models import ARCHITECTURES, Architecture, build
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential, Prediction

#: Settings of each architecture for fast tests. A new architecture adds one line.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "alphanet": {
        "num_features": 8,
        "num_layers": 2,
        "num_radial": 4,
        "num_heads": 2,
        "state_size": 3,
        "phase_size": 3,
        "contraction_size": 4,
        "kernel_size": 3,
    },
    "equiformer_v2": {
        "num_layers": 1,
        "num_channels": 6,
        "max_degree": 2,
        "max_order": 1,
        "num_heads": 2,
        "attention_channels": 6,
        "alpha_channels": 3,
        "value_channels": 3,
        "feed_forward_channels": 6,
        "edge_channels": 6,
        "num_basis": 8,
        "attention_grid": (4, 16),
        "feed_forward_grid": (9, 18),
    },
    "leignn": {"num_features": 8, "num_layers": 2, "num_radial": 8},
    "mace": {
        "num_channels": 4,
        "max_degree": 1,
        "num_bessel": 4,
        "radial_widths": (8,),
        "readout_width": 4,
    },
    "nequip": {
        "num_channels": 4,
        "max_degree": 1,
        # With fewer, no pseudovector reaches the energy.
        "num_layers": 4,
        "num_bessel": 4,
        "radial_widths": (8,),
        "readout_width": 4,
    },
    "painn": {"num_features": 8, "num_layers": 2, "num_radial": 8},
    "schnet": {"num_features": 8, "num_layers": 2, "num_basis": 8},
    "so3krates": {"num_features": 12, "num_layers": 2, "num_heads": 2, "num_radial": 8},
}

#: Relative error of rotation and reflection that an architecture on a grid is allowed;
#: for all others they are exact.
EQUIVARIANCE_TOLERANCE: Mapping[str, float] = {"equiformer_v2": 1e-6}

CUTOFF = 4.0  # Angstrom
ELEMENTS = (1, 6, 8, 14)
#: Room for nearly all checks, so that one program serves them.
ROOM = GraphSize(atoms=32, edges=512, graphs=4)


def small(name: str) -> Architecture:
    """The architecture ``name`` in its settings for fast tests, with the cutoff of the tests."""
    if name not in SMALL:
        raise AssertionError(f"{name} has no settings for fast tests; add a line to helpers.SMALL")
    return build(name, {**SMALL[name], "cutoff": CUTOFF, "avg_num_neighbors": 8.0})


class Model:
    """A potential in float64 with random parameters and its compiled programs.

    Everything runs under strict dtype promotion. ``traces`` counts how often the program of
    :meth:`predict` was traced.
    """

    def __init__(
        self,
        module: Architecture,
        tolerance: float = 1e-9,
        seed: int = 0,
        *,
        compressed: bool = False,
    ) -> None:
        noise = np.random.default_rng(seed)
        # Compiled, so that the compilation cache keeps it.
        init = jax.jit(lambda key: Potential.init(module, ELEMENTS, key, dtype=jnp.float64))
        potential = init(jax.random.key(seed))
        # Noise on everything, because a bias of zero hides what it would break.
        leaves, tree = jax.tree.flatten(potential.params)
        leaves = [x + jnp.asarray(noise.normal(0, 0.1, x.shape), x.dtype) for x in leaves]
        potential = potential.replace(params=jax.tree.unflatten(tree, leaves))
        self.potential = potential.compressed() if compressed else potential
        self.module = self.potential.module
        self.tolerance = tolerance
        self.traces = 0

        def predict(potential: Potential, graph: AtomGraph) -> Prediction:
            self.traces += 1
            return potential.energy_forces_stress(graph)

        self._predict = _strict(jax.jit(predict))
        self._force_loss = _strict(jax.jit(jax.value_and_grad(force_loss)))
        self._hessian_vector = _strict(jax.jit(hessian_vector))

    def graph(self, atoms: Atoms) -> AtomGraph:
        """The unpadded graph of ``atoms`` in float64."""
        return atom_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF, np.float64
        )

    def predict(self, graph: AtomGraph | Atoms) -> Prediction:
        """Energy, forces and stress in NumPy arrays, padding cut off (of one structure)."""
        graph = self.graph(graph) if isinstance(graph, Atoms) else graph
        return unpadded(self._predict(self.potential, padded(graph)), graph.size)

    def predict_padded(self, graph: AtomGraph) -> Prediction:
        """Energy, forces and stress of a padded graph, as they are."""
        return jax.tree.map(np.asarray, self._predict(self.potential, graph))

    def force_loss(
        self, graph: AtomGraph, params: Any = None, *, padding: bool = True
    ) -> tuple[Any, Any]:
        """Loss of energies and forces against zero, and its gradient by the parameters."""
        params = self.potential.params if params is None else params
        graph = padded(graph) if padding else graph
        return self._force_loss(params, self.potential, graph)

    def hessian_vector(self, graph: AtomGraph, direction: np.ndarray) -> np.ndarray:
        """Derivative of the forces along ``direction`` by forward over reverse mode."""
        tangent = np.zeros((ROOM.atoms, 3))
        tangent[: len(direction)] = direction
        result = self._hessian_vector(self.potential, padded(graph), tangent)
        return np.asarray(result)[: len(direction)]


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("strict"):
            return function(*args)

    return call


def force_loss(params: Any, potential: Potential, graph: AtomGraph) -> jax.Array:
    """Sum of squares of the energies and forces of real graphs and atoms."""
    prediction = potential.replace(params=params).energy_forces(graph)
    assert prediction.forces is not None
    energy = jnp.where(graph.graph_mask, prediction.energy, 0)
    forces = jnp.where(graph.node_mask[:, None], prediction.forces, 0)
    return (energy**2).sum() + (forces**2).sum()


def hessian_vector(potential: Potential, graph: AtomGraph, tangent: jax.Array) -> jax.Array:
    """Minus the Hessian of the energy times ``tangent`` ``[atoms, 3]``."""

    def forces(positions: jax.Array) -> jax.Array:
        result = potential.energy_forces(graph.replace(positions=positions)).forces
        assert result is not None
        return result

    return jax.jvp(forces, (jnp.asarray(graph.positions),), (jnp.asarray(tangent),))[1]


def padded(graph: AtomGraph) -> AtomGraph:
    """``graph`` padded to :data:`ROOM`."""
    return graph if graph.size == ROOM else pad(graph, ROOM)


def unpadded(prediction: Prediction, size: GraphSize) -> Prediction:
    """``prediction`` as NumPy arrays of the first ``size`` atoms and graphs."""
    atoms, graphs = size.atoms, size.graphs
    return Prediction(
        energy=np.asarray(prediction.energy)[:graphs],
        baseline=np.asarray(prediction.baseline)[:graphs],
        node_energy=np.asarray(prediction.node_energy)[:atoms],
        forces=np.asarray(prediction.forces)[:atoms],
        virial=np.asarray(prediction.virial)[:graphs],
        stress=np.asarray(prediction.stress)[:graphs],
    )


def assert_close(
    got: Any, expected: Any, what: str, tolerance: float, scale: float | None = None
) -> None:
    """Largest difference below ``tolerance * scale``; NaN only where NaN is expected.

    ``scale`` is the largest ``expected`` number unless given.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape} is not {expected.shape}"
    lost = np.isnan(got) != np.isnan(expected)
    assert not lost.any(), f"{what}: {int(lost.sum())} numbers are NaN on one side only"
    known = ~np.isnan(expected)
    if scale is None:
        scale = float(np.abs(expected[known]).max(initial=0)) + 1e-6
    error = float(np.abs(got[known] - expected[known]).max(initial=0))
    assert error <= tolerance * scale, (
        f"{what}: difference {error:.2e} of numbers of size {scale:.2e}; "
        f"allowed {tolerance:.0e} of it"
    )


def assert_finite(tree: Any, what: str) -> None:
    """Every number of every array is finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        ok = np.isfinite(np.asarray(leaf)).all()
        assert ok, f"{what}: not finite at {jax.tree_util.keystr(path)}"


def rotation(seed: int = 3) -> np.ndarray:
    """A random proper rotation ``[3, 3]``."""
    return Rotation.random(random_state=seed).as_matrix()


#: Architectures with a faster form, which keeps every promise too.
COMPRESSIBLE = ("schnet", "so3krates")


def registered() -> list[str]:
    """Names of all architectures."""
    return sorted(ARCHITECTURES)
