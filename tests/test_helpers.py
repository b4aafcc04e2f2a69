"""Each check of the contract fails on a module that is broken on purpose, and on nothing else."""

# ruff: noqa: ARG002  # the broken modules share one signature

import contract
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from flax import linen as nn
from helpers import Model

from mlffjax.graph import AtomGraph, EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.scatter import masked, mean_over_graph, sum_over_graph, sum_to_receivers
from mlffjax.potential import Prediction


class Sound(Architecture):
    """A density and a dipole of the neighbours; keeps the whole contract."""

    cutoff: float = helpers.CUTOFF

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        weights = self.param(
            "weights", nn.initializers.normal(1), (self.num_elements,), graph.vectors.dtype
        )
        distances, directions = length_and_direction(graph.vectors)
        radial = self.weight(weights)[graph.species][graph.senders] * self.envelope(distances)
        density = self.collect(radial * jnp.exp(-distances), graph)
        dipole = self.collect(radial[:, None] * directions, graph)
        center = weights[graph.species]
        return AtomwiseOutput(energy=self.energy(center, density, dipole, graph))

    def weight(self, weights: jax.Array) -> jax.Array:
        return weights

    def envelope(self, distances: jax.Array) -> jax.Array:
        return polynomial_cutoff(distances, self.cutoff)

    def collect(self, values: jax.Array, graph: EdgeGraph) -> jax.Array:
        return sum_to_receivers(values, graph)

    def energy(
        self, center: jax.Array, density: jax.Array, dipole: jax.Array, graph: EdgeGraph
    ) -> jax.Array:
        return center * density + density**2 + (dipole**2).sum(-1)

    @property
    def isolated_atom_is_zero(self) -> bool:
        return True


class Constant(Sound):
    def energy(self, center, density, dipole, graph):
        return 0 * density + center


class AbsoluteAxis(Sound):
    def energy(self, center, density, dipole, graph):
        return super().energy(center, density, dipole, graph) + dipole[:, 0] ** 2


class Chiral(Sound):
    """Adds the triple product of three moments of the neighbours: changes sign in a mirror."""

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        distances, directions = length_and_direction(graph.vectors)
        radial = polynomial_cutoff(distances, self.cutoff)[:, None] * directions
        one, two, three = (
            sum_to_receivers(radial * distances[:, None] ** power, graph) for power in range(3)
        )
        return AtomwiseOutput(energy=(one * jnp.cross(two, three)).sum(-1))


class DeclaredChiral(Chiral):
    @property
    def mirror_symmetric(self) -> bool:
        return False


class FalselyDeclaredChiral(Sound):
    @property
    def mirror_symmetric(self) -> bool:
        return False


class AtomOrder(Sound):
    def energy(self, center, density, dipole, graph):
        order = jnp.arange(graph.num_atoms).astype(density.dtype)
        return super().energy(center, density, dipole, graph) * order


class StoppedGradient(Sound):
    def energy(self, center, density, dipole, graph):
        density = jax.lax.stop_gradient(density)
        return super().energy(center, density, dipole, graph)


class StoppedParameter(Sound):
    def weight(self, weights):
        return jax.lax.stop_gradient(weights)


class StoppedSmallParameter(Sound):
    """The parameter whose gradient is lost has little influence."""

    def energy(self, center, density, dipole, graph):
        small = self.param("small", nn.initializers.ones, (), density.dtype)
        change = 1e-4 * jax.lax.stop_gradient(small) * density
        return super().energy(center, density, dipole, graph) + change


@jax.custom_jvp
def _square(x):
    return x * x


@_square.defjvp
def _square_jvp(primals, tangents):
    return _square(primals[0]), jax.lax.stop_gradient(2 * primals[0]) * tangents[0]


class WrongSecondDerivative(Sound):
    def energy(self, center, density, dipole, graph):
        return _square(density)


class NoEnvelope(Sound):
    def envelope(self, distances):
        return jnp.where(distances < self.cutoff, jnp.ones_like(distances), 0)


class KinkedEnvelope(Sound):
    def envelope(self, distances):
        return jnp.maximum(1 - distances / self.cutoff, 0)


class DeclaredJump(NoEnvelope):
    @property
    def smooth(self) -> bool:
        return False


class FalselyDeclaredJump(Sound):
    @property
    def smooth(self) -> bool:
        return False


class BiasOfIsolatedAtom(Sound):
    def energy(self, center, density, dipole, graph):
        return super().energy(center, density, dipole, graph) + center


class NumberOfEdges(Sound):
    def energy(self, center, density, dipole, graph):
        return super().energy(center, density, dipole, graph) + len(graph.senders)

    @property
    def isolated_atom_is_zero(self) -> bool:
        return False


class UnsafeNorm(Sound):
    def energy(self, center, density, dipole, graph):
        return jnp.sqrt(((center[:, None] * dipole) ** 2).sum(-1))


class MeanOverGraph(Sound):
    def energy(self, center, density, dipole, graph):
        return density * mean_over_graph(density, graph)[graph.graph_index]


class DeclaredMeanOverGraph(MeanOverGraph):
    @property
    def extensive(self) -> bool:
        return False


class FalselyDeclaredNotExtensive(Sound):
    @property
    def extensive(self) -> bool:
        return False


class SumOverGraph(Sound):
    def energy(self, center, density, dipole, graph):
        return density * sum_over_graph(density, graph)[graph.graph_index]


class NoSelfImages(Sound):
    def collect(self, values, graph):
        other = (graph.senders != graph.receivers).astype(values.dtype)
        return sum_to_receivers(values * other.reshape((-1,) + (1,) * (values.ndim - 1)), graph)


class WholeBatch(Sound):
    def energy(self, center, density, dipole, graph):
        energy = super().energy(center, density, dipole, graph)
        return energy * jnp.where(graph.node_mask, density, 0).sum()


class SumsByMatrix(Sound):
    """Zero times what is not finite is not finite."""

    def collect(self, values, graph):
        return jax.nn.one_hot(graph.receivers, graph.num_atoms).T @ masked(values, graph.edge_mask)


class CountsPadding(Sound):
    """Padded edges are not masked: they reach whatever atom their index names."""

    def envelope(self, distances):
        return jnp.exp(-distances / 1e3)

    def collect(self, values, graph):
        return jax.ops.segment_sum(values, graph.receivers, graph.num_atoms)


class PaddedSize(Sound):
    def energy(self, center, density, dipole, graph):
        return super().energy(center, density, dipole, graph) * graph.num_atoms


class SinglePrecisionOutput(Sound):
    def energy(self, center, density, dipole, graph):
        return super().energy(center, density, dipole, graph).astype(jnp.float32)


class DefaultDtypeParameter(Sound):
    def energy(self, center, density, dipole, graph):
        factor = self.param("factor", nn.initializers.ones, ())
        return super().energy(center, density, dipole, graph) * factor.astype(density.dtype)


class DoublePrecisionConstant(Sound):
    def weight(self, weights):
        return weights * jnp.ones((), jnp.float64)


class OverflowInSinglePrecision(Sound):
    def energy(self, center, density, dipole, graph):
        return jnp.exp(100 + density) * jnp.exp(-jnp.full_like(density, 100))


class SeesPositions(Model):
    """A model whose energy depends on the place of its first atom."""

    def predict(self, graph: AtomGraph | Atoms) -> Prediction:
        graph = self.graph(graph) if isinstance(graph, Atoms) else graph
        result = super().predict(graph)
        return result.replace(energy=result.energy + np.sin(graph.positions[0, 0]))


class WrongSignOfStress(Model):
    """A model with the other sign convention of the stress."""

    def predict(self, graph: AtomGraph | Atoms) -> Prediction:
        result = super().predict(graph)
        assert result.stress is not None
        return result.replace(stress=-result.stress)


class Unpadded(Model):
    """A model that compiles each size anew."""

    def predict(self, graph: AtomGraph | Atoms) -> Prediction:
        graph = self.graph(graph) if isinstance(graph, Atoms) else graph
        return jax.tree.map(np.asarray, self._predict(self.potential, graph))


CHECKS = {name: value for name, value in vars(contract).items() if name.startswith("check_")}
BROKEN = [
    ("check_responds", Constant, Model, "ignores the structure"),
    ("check_rotation", AbsoluteAxis, Model, "rotation: energy"),
    ("check_reflection", Chiral, Model, "reflection: energy"),
    ("check_reflection", FalselyDeclaredChiral, Model, "declared false"),
    ("check_translation", Sound, SeesPositions, "translation: energy"),
    ("check_permutation", AtomOrder, Model, "permutation: energy"),
    ("check_forces_are_gradient", StoppedGradient, Model, "-dE/dr"),
    ("check_stress_is_gradient", StoppedGradient, Model, "dE/dstrain"),
    ("check_stress_is_gradient", Sound, WrongSignOfStress, "dE/dstrain"),
    ("check_parameter_gradient", StoppedParameter, Model, "force loss"),
    ("check_parameter_gradient", StoppedSmallParameter, Model, r"force loss by .*'small'"),
    ("check_hessian", WrongSecondDerivative, Model, "Hessian"),
    ("check_smooth_at_cutoff", NoEnvelope, Model, "energy jumps"),
    ("check_smooth_at_cutoff", KinkedEnvelope, Model, "forces jump"),
    ("check_smooth_at_cutoff", FalselyDeclaredJump, Model, "declared false"),
    ("check_isolated_atom", BiasOfIsolatedAtom, Model, "isolated_atom_is_zero"),
    ("check_isolated_atom", NumberOfEdges, Model, "without padding"),
    ("check_isolated_atom", UnsafeNorm, Model, "gradient of an isolated atom"),
    ("check_extensive", MeanOverGraph, Model, "extensivity"),
    ("check_extensive", FalselyDeclaredNotExtensive, Model, "declared false"),
    ("check_supercell", SumOverGraph, Model, "supercell: energy"),
    ("check_supercell", NoSelfImages, Model, "supercell: energy"),
    ("check_batch", WholeBatch, Model, "batch: energy"),
    ("check_broken_structure", SumsByMatrix, Model, "broken structure: energy of another"),
    ("check_padding", CountsPadding, Model, "padding"),
    ("check_dtype", SinglePrecisionOutput, Model, "is float32, not float64"),
    ("check_dtype", DefaultDtypeParameter, Model, "'factor'.* is float64, not float32"),
    ("check_dtype", DoublePrecisionConstant, Model, "promotion"),
    ("check_float32", OverflowInSinglePrecision, Model, "float32"),
    ("check_float32", PaddedSize, Model, "float32"),
    ("check_no_recompilation", Sound, Unpadded, "another program"),
]


@pytest.mark.parametrize(("name", "module", "model", "message"), BROKEN)
def test_check_fails_on(
    name: str, module: type[Architecture], model: type[Model], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        CHECKS[name](model(module()))


@pytest.fixture(scope="module")
def sound() -> Model:
    return Model(Sound())


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes_on_a_sound_module(sound: Model, name: str) -> None:
    CHECKS[name](sound)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("check_reflection", DeclaredChiral),
        ("check_smooth_at_cutoff", DeclaredJump),
        ("check_extensive", DeclaredMeanOverGraph),
    ],
)
def test_true_declaration_passes(name: str, module: type[Architecture]) -> None:
    CHECKS[name](Model(module()))


def test_every_check_has_a_broken_module() -> None:
    assert {name for name, *_ in BROKEN} == set(CHECKS)


def test_assert_close_sees_a_lost_number() -> None:
    with pytest.raises(AssertionError, match="NaN on one side"):
        helpers.assert_close([1.0, np.nan], [1.0, 2.0], "numbers", 1e-3)


def test_unknown_architecture_names_the_table() -> None:
    with pytest.raises(AssertionError, match=r"helpers\.SMALL"):
        helpers.small("unheard-of")


def test_small_settings_are_registered() -> None:
    assert set(helpers.SMALL) <= set(helpers.registered())
