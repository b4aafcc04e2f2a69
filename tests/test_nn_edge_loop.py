"""Loops over edges give what gathering and summing over all edges gives, to any derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.graph import EdgeGraph
from mlffjax.nn import backend
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop

ATOMS, EDGES, FEATURES = 5, 23, 3
RNG = np.random.default_rng(0)
SENDERS = jnp.asarray(RNG.integers(0, ATOMS, EDGES), jnp.int32)
RECEIVERS = jnp.asarray(np.sort(RNG.integers(0, ATOMS, EDGES)), jnp.int32)
GRAPH = EdgeGraph(
    vectors=jnp.ones((EDGES, 3)),
    species=jnp.zeros(ATOMS, jnp.int32),
    numbers=jnp.ones(ATOMS, jnp.int32),
    graph_index=jnp.zeros(ATOMS, jnp.int32),
    senders=SENDERS,
    receivers=RECEIVERS,
    node_mask=jnp.ones(ATOMS, bool),
    edge_mask=jnp.ones(EDGES, bool),
    graph_mask=jnp.ones(1, bool),
)
#: At the senders, at the receivers (two arrays), at both, of the edges, shared.
INPUTS = tuple(
    jax.tree.map(
        lambda shape: jnp.asarray(RNG.normal(size=shape)),
        shapes,
        is_leaf=lambda x: isinstance(x[0], int),
    )
    for shapes in [
        (ATOMS, FEATURES),
        ((ATOMS, FEATURES), (ATOMS, 2, 2)),
        ((ATOMS, FEATURES), (ATOMS, 1)),
        (EDGES, 2),
        (2, FEATURES),
    ]
)


@pytest.fixture(autouse=True, params=["cpu", "accelerator"])
def form(request, monkeypatch):
    """Gathers and sums array by array, and joined."""
    monkeypatch.setattr(backend, "on_cpu", lambda: request.param == "cpu")


def message(terms: EdgeTerms) -> EdgeTerms:
    weights = jnp.sin(terms.edges @ terms.shared)
    features, matrices = terms.receivers
    (one, scale), (two, _) = terms.ends
    product = terms.senders * jnp.tanh(features) * weights * (one - two**2)
    return EdgeTerms(
        senders=product**2,
        receivers=(product, matrices * product[:, :2, None]),
        ends=((product * scale,), (2 * product,)),
        edges=(jnp.sum(weights, axis=1),),
        shared=jnp.sum(weights**2),
    )


def looped(size):
    def function(*inputs):
        return edge_loop(message, GRAPH, EdgeTerms(*inputs), size)

    return function


def at_once(senders, receivers, ends, edges, shared):
    def take(where):
        return lambda x: x[where]

    def total(where):
        return lambda x: jax.ops.segment_sum(x, where, ATOMS)

    both = tuple(jax.tree.map(take(where), ends) for where in (SENDERS, RECEIVERS))
    of_receivers = jax.tree.map(take(RECEIVERS), receivers)
    rows = message(EdgeTerms(senders[SENDERS], of_receivers, both, edges, shared))
    one, two = rows.ends
    return EdgeTerms(
        total(SENDERS)(rows.senders),
        jax.tree.map(total(RECEIVERS), rows.receivers),
        jax.tree.map(lambda x, y: total(SENDERS)(x) + total(RECEIVERS)(y), one, two),
        rows.edges,
        rows.shared,
    )


def energy(function):
    return lambda *inputs: sum(jnp.sum(jnp.cos(x)) for x in jax.tree.leaves(function(*inputs)))


def force_loss(function):
    """A loss of first derivatives, as force matching has it."""
    gradient = jax.grad(energy(function), argnums=(0, 2, 3))
    return lambda *inputs: sum(jnp.sum(x**2) for x in jax.tree.leaves(gradient(*inputs)))


def assert_equal(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), one, two)


@pytest.mark.parametrize("size", [4, EDGES])
def test_values(size):
    assert_equal(looped(size)(*INPUTS), at_once(*INPUTS))


@pytest.mark.parametrize("objective", [energy, force_loss])
def test_gradients_by_all_inputs(objective):
    got, expected = (
        jax.jit(jax.grad(objective(f), argnums=(0, 1, 2, 3, 4)))(*INPUTS)
        for f in (looped(4), at_once)
    )
    assert_equal(got, expected)


def test_forward_over_reverse():
    def curvature(function):
        gradient = jax.grad(lambda x: energy(function)(*INPUTS[:3], x, INPUTS[4]))
        return jax.jvp(gradient, (INPUTS[3],), (jnp.ones_like(INPUTS[3]),))[1]

    assert_equal(curvature(looped(4)), curvature(at_once))


def test_batched():
    many = jnp.stack([INPUTS[0], 2 * INPUTS[0]])

    def gradients(function):
        return jax.vmap(jax.grad(energy(function)), (0, None, None, None, None))(many, *INPUTS[1:])

    assert_equal(gradients(looped(4)), gradients(at_once))


def test_derivatives_that_nobody_asks_for_are_not_computed():
    """Forces need no gradient of the parameters: no sum over edges of their shape."""
    text = str(jax.make_jaxpr(jax.grad(energy(looped(4)), argnums=3))(*INPUTS))
    loops = text.count("edge_loop[")
    assert loops == 2  # the energy, its derivative
    shapes = [
        eqn.outvars
        for eqn in jax.make_jaxpr(jax.grad(energy(looped(4)), argnums=3))(*INPUTS).eqns
        if eqn.primitive.name == "edge_loop"
    ]
    assert [x.aval.shape for x in shapes[-1]] == [INPUTS[3].shape]


def test_a_derivative_holds_no_product_that_it_does_not_need():
    """The forward one that it builds on and its transpose, not the change of the sums as well."""
    traced = jax.make_jaxpr(jax.grad(energy(looped(4)), argnums=3))(*INPUTS)
    loops = [eqn for eqn in traced.eqns if eqn.primitive.name == "edge_loop"]
    block = loops[-1].params["loop"].block.jaxpr
    assert str(block).count("dot_general[") == 2


@pytest.mark.parametrize("last", [0, 9, 22])
def test_padding_at_the_end_is_left_out(last):
    """Only blocks of nothing but padding are; real edges may stand behind padded ones."""
    mask = jnp.arange(EDGES) == last
    graph = GRAPH.replace(edge_mask=mask)

    def function(graph, size, *inputs):
        def masked(terms: EdgeTerms) -> EdgeTerms:
            real, edges = terms.edges
            rows = message(terms._replace(edges=edges))
            return EdgeTerms(receivers=rows.receivers[0] * real[:, None], edges=real)

        inputs = EdgeTerms(*inputs)
        inputs = inputs._replace(edges=(mask.astype(float), inputs.edges))
        return edge_loop(masked, graph, inputs, size)

    want = function(GRAPH, EDGES, *INPUTS)
    assert_equal(jax.jit(function, static_argnums=1)(graph, 4, *INPUTS), want)
    broken = INPUTS[3].at[(last // 4 + 1) * 4 :].set(jnp.nan)
    got = function(graph, 4, *INPUTS[:3], broken, INPUTS[4])
    assert_equal(got, want)


def test_what_was_traced_for_the_devices_of_a_mesh_is_not_used_elsewhere():
    """As a training and the dynamics that check it do, where their sizes are the same."""

    def doubled(terms):
        return EdgeTerms(receivers=2 * (terms.senders @ jnp.eye(FEATURES)))

    def total(senders, kernel):
        looped = edge_loop(doubled, GRAPH, EdgeTerms(senders=senders), EDGES)
        return jnp.sum((looped.receivers @ kernel) ** 2)

    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.PartitionSpec()
    within = jax.shard_map(
        jax.grad(total), mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
    )
    kernel = INPUTS[4].T
    inputs = jax.device_put((INPUTS[0], kernel), jax.sharding.NamedSharding(mesh, everywhere))
    inside = jax.jit(within)(*inputs)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(*inputs), inside, rtol=1e-6)
