"""SO3krates: its settings, its two ways to start, and the numbers of its parameters."""

import contract
import helpers
import jax
import numpy as np
import pytest
from systems import molecule

from mlffjax.models import SO3krates
from mlffjax.nn import pair_matrix
from mlffjax.potential import Potential


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ev_initialization": "one"}, "got ev_initialization 'one'; expected 'neighborhood'"),
        ({"degrees": (2, 1)}, r"got degrees \(2, 1\); expected ascending"),
        ({"num_features": 133}, "got 133 features for 4 heads; expected a multiple"),
        ({"num_features": 128}, "got 128 features for 3 degrees; expected a multiple"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SO3krates(**settings)


def test_euclidean_variables_that_start_at_zero():
    model = helpers.Model(helpers.small("so3krates").clone(ev_initialization="zero"))
    contract.check_responds(model)
    contract.check_rotation(model)


@pytest.mark.parametrize(("degrees", "parameters"), [((0, 1, 2, 3), 311_515), ((0,), 386_899)])
def test_numbers_of_parameters(degrees, parameters):
    """311k and 386k in the paper (100 rows of the embedding)."""
    module = SO3krates(degrees=degrees)
    init = lambda key: Potential.init(module, range(1, 101), key)  # noqa: E731
    assert jax.eval_shape(init, jax.random.key(0)).num_parameters == parameters


def test_values_in_a_matrix_or_edge_by_edge(monkeypatch):
    """The same energy, forces, gradient of a loss of forces, and product with the Hessian."""
    model = helpers.Model(helpers.small("so3krates"))
    graph = model.graph(molecule())
    tangent = np.random.default_rng(0).normal(size=graph.positions.shape)

    def everything(params, potential, graph):
        potential = potential.replace(params=params)
        prediction = potential.energy_forces(graph)
        gradient = jax.grad(helpers.force_loss)(params, potential, graph)
        product = helpers.hessian_vector(potential, graph, tangent)
        return prediction.energy, prediction.forces, gradient, product

    results = []
    for pairs_of_atoms in (0, 1000):
        monkeypatch.setattr(pair_matrix, "PAIRS_OF_ATOMS", pairs_of_atoms)
        arguments = (model.potential.params, model.potential, graph)
        # A function of its own: the constant is no part of what a traced one is kept by.
        results.append(jax.jit(lambda *x: everything(*x))(*arguments))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()))
