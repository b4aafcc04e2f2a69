"""EquiformerV2 beside the contract: ablations, heads, dropout, sizes, the free angle."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from gauges import twist
from helpers import SMALL, rotation
from systems import molecule

from mlffjax.graph import EdgeGraph, edge_vectors
from mlffjax.models import EquiformerV2, build, equiformer_v2
from mlffjax.neighbors import atom_graph

CONFIGS = Path(__file__).parent.parent / "experiments" / "equiformer_v2"
ELEMENTS = np.array([1, 6, 8])


def module(**settings: Any) -> EquiformerV2:
    fields = {**SMALL["equiformer_v2"], "cutoff": 4.0, "avg_num_neighbors": 8.0, **settings}
    return EquiformerV2(num_elements=3, **fields)


def edges(matrix: np.ndarray | None = None) -> EdgeGraph:
    atoms = molecule()
    positions = atoms.positions if matrix is None else atoms.positions @ matrix.T
    graph = atom_graph(atoms.numbers, positions, atoms.cell.array, atoms.pbc, 4.0, np.float64)
    return EdgeGraph(
        vectors=edge_vectors(graph),
        species=jnp.asarray(np.searchsorted(ELEMENTS, graph.numbers)),
        numbers=jnp.asarray(graph.numbers),
        graph_index=jnp.asarray(graph.graph_index),
        senders=jnp.asarray(graph.senders),
        receivers=jnp.asarray(graph.receivers),
        node_mask=jnp.asarray(graph.node_mask),
        edge_mask=jnp.asarray(graph.edge_mask),
        graph_mask=jnp.asarray(graph.graph_mask),
    )


def initial(model: EquiformerV2, graph: EdgeGraph) -> Any:
    return jax.jit(model.init)(jax.random.key(0), graph)


def run(model: EquiformerV2, params: Any, graph: EdgeGraph, **options: Any) -> Any:
    return jax.jit(lambda p, g: model.apply(p, g, **options))(params, graph)


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_activation": "gate", "feed_forward_activation": "gate", "norm": "degree_wise"},
        {"attention_activation": "s2", "feed_forward_activation": "grid", "norm": "rms"},
        pytest.param(
            {"feed_forward_activation": "s2", "renormalize_attention": False},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"feed_forward_activation": "separable_s2", "grid_rule": "equiangular"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["gate", "s2_on_grid", "s2_without_norm", "separable_s2"],
)
def test_ablations_and_direct_forces_turn_with_the_structure(settings):
    grids = {"attention_grid": (9, 18), "feed_forward_grid": (12, 18)}
    model = module(force_head="direct", **{**grids, **settings})
    assert model.direct_forces
    graph, turn = edges(), rotation()
    params = initial(model, graph)
    first, second = run(model, params, graph), run(model, params, edges(turn))
    assert np.abs(first.energy).max() > 1e-6
    assert np.abs(first.forces).max() > 1e-4
    np.testing.assert_allclose(second.energy, first.energy, atol=1e-6)
    np.testing.assert_allclose(second.forces, first.forces @ turn.T, atol=1e-6)


@pytest.mark.slow
def test_the_angle_about_the_edges_does_not_matter(monkeypatch):
    """Default numbers of azimuths; what is left is the quadrature error of SiLU."""
    model = module(max_degree=3, max_order=2, attention_grid=(7, 24), feed_forward_grid=(12, 24))
    graph = edges()
    params = initial(model, graph)
    plain = jax.jit(equiformer_v2.edge_rotation, static_argnums=(1, 2))

    def energies(angles, graph):
        def twisted(directions, max_degree, max_order):
            return twist(plain(directions, max_degree, max_order), angles)

        monkeypatch.setattr(equiformer_v2, "edge_rotation", twisted)
        return model.apply(params, graph).energy.sum()

    def value_and_force(angles):
        return jax.value_and_grad(lambda v: energies(angles, graph.replace(vectors=v)))(
            graph.vectors
        )

    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, len(graph.senders))
    compiled = jax.jit(value_and_force)
    (energy, force), (turned, same) = compiled(0 * turns), compiled(turns)
    np.testing.assert_allclose(turned, energy, rtol=1e-9)
    np.testing.assert_allclose(same, force, atol=1e-8 * np.abs(force).max())


def test_dropout_acts_where_a_key_is_given_and_nowhere_else():
    model = module(alpha_drop=0.5, path_drop=0.0)
    graph = edges()
    params = initial(model, graph)
    plain = run(module(), params, graph).energy
    np.testing.assert_array_equal(run(model, params, graph).energy, plain)
    one, two, again = (
        run(model, params, graph, rngs={"dropout": jax.random.key(k)}).energy for k in (1, 2, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - plain).max() > 1e-8
    assert np.abs(one - two).max() > 1e-8


def test_stochastic_depth_leaves_out_branches_of_whole_structures():
    graph = edges()
    params = initial(module(), graph)
    empty = module(num_layers=0)
    without = run(empty, params, graph).energy
    model = module(path_drop=1 - 1e-12)
    dropped = run(model, params, graph, rngs={"dropout": jax.random.key(0)}).energy
    np.testing.assert_allclose(dropped, without, rtol=1e-12)
    assert np.abs(run(model, params, graph).energy - without).max() > 1e-8


def test_only_the_nearest_neighbors_count():
    graph = edges()
    params = initial(module(), graph)
    limited = run(module(max_neighbors=3), params, graph).energy
    lengths = np.linalg.norm(graph.vectors, axis=1)
    near = np.zeros(len(lengths), bool)
    for centre in range(9):
        own = np.flatnonzero(graph.receivers == centre)
        near[own[np.argsort(lengths[own])[:3]]] = True
    expected = run(module(), params, graph.replace(edge_mask=jnp.asarray(near))).energy
    np.testing.assert_allclose(limited, expected, rtol=1e-12)
    assert not module(max_neighbors=3).smooth


@pytest.mark.parametrize(
    ("name", "millions", "unused"), [("31m", 31.06, 0.119), ("153m", 153.60, 0.152)]
)
def test_published_models_have_their_published_sizes(name, millions, unused):
    """Without what cannot act: see :func:`mlffjax.interop.equiformer_v2.read`, and row 0."""
    settings = yaml.safe_load((CONFIGS / f"oc20_{name}.yaml").read_text())["model"]
    model = build(settings.pop("architecture"), {**settings, "num_elements": 90})
    tree = jax.eval_shape(model.init, jax.random.key(0), edges())
    count = sum(x.size for x in jax.tree.leaves(tree))
    assert count / 1e6 + unused == pytest.approx(millions, abs=0.03)


@pytest.mark.parametrize(
    "settings",
    [{"force_head": "both"}, {"attention_activation": "relu"}, {"feed_forward_activation": "mlp"}],
)
def test_an_unknown_setting_is_an_error(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} '{value}'"):
        module(**settings).init(jax.random.key(0), edges())
