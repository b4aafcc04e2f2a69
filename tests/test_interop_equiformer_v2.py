"""EquiformerV2 against the numbers of the published implementation."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gauges import twist

from mlffjax.graph import AtomGraph
from mlffjax.interop import equiformer_v2, from_reference
from mlffjax.models import equiformer_v2 as model
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

PARITY = Path(__file__).parent / "data" / "parity" / "equiformer_v2.npz"
SYSTEMS = ["ethanol", "cu110_o", "si_triclinic"]
#: e3nn's axes (z, x, y), in which the polar axis is the last.
AXES = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])


def reference():
    data = np.load(PARITY)
    prefix = "weights/"
    weights = {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}
    return data, json.loads(str(data["config"])), weights


@pytest.mark.parametrize(
    ("system", "dtype", "tolerance"),
    [*((system, jnp.float64, 1e-7) for system in SYSTEMS), ("ethanol", jnp.float32, 1e-4)],
)
def test_energy_and_forces_equal_the_reference(system, dtype, tolerance):
    data, config, weights = reference()
    potential = from_reference(config, weights, dtype=dtype)

    def get(name):
        return data[f"{system}/{name}"]

    graph = atom_graph(
        get("numbers"), get("positions"), get("cell"), get("pbc"), potential.cutoff, dtype
    )
    assert len(graph.senders) == len(get("centers"))
    result = jax.jit(Potential.energy_forces)(potential, graph)
    assert result.energy.dtype == dtype
    np.testing.assert_allclose(result.energy[0], get("energy")[0], rtol=tolerance)
    # The reference chooses the angle about each edge at random, and its forces depend on it.
    gauge = 5 * get("force_std_over_gauges").max()
    scale = np.abs(get("direct_forces")).max()
    np.testing.assert_allclose(
        result.forces, get("direct_forces"), rtol=0, atol=tolerance * scale + gauge
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_with_the_angles_of_the_reference_all_digits_agree(system, monkeypatch):
    data, config, weights = reference()
    potential = from_reference(config, weights, dtype=jnp.float64)
    graph, matrices = graph_of_file(data, system)

    def with_its_angles(directions, max_degree, max_order):
        rotation = original(directions, max_degree, max_order)
        theirs = jnp.asarray(AXES @ matrices @ AXES.T)
        turn = jnp.einsum("eij,ekj->eik", theirs, cartesian(rotation[1]))
        return twist(rotation, jnp.arctan2(turn[:, 1, 0], turn[:, 0, 0]))

    original = model.edge_rotation
    monkeypatch.setattr(model, "edge_rotation", with_its_angles)
    # A function of its own: the program compiled for the plain rotation must not be found again.
    result = jax.jit(lambda p, g: p.energy_forces(g))(potential, graph)
    np.testing.assert_allclose(result.energy[0], data[f"{system}/energy"][0], rtol=1e-12)
    forces = data[f"{system}/direct_forces"]
    np.testing.assert_allclose(result.forces, forces, rtol=0, atol=1e-12 * np.abs(forces).max())


def cartesian(block):
    """Rotation matrices from the block of degree 1, rows ``0, 1, -1``, columns ``(y, z, x)``."""
    return block[:, [1, 2, 0]][:, :, [2, 0, 1]]


def graph_of_file(data, system):
    """The graph with the edges of the file, sorted by centre, and its rotation matrices."""

    def get(name):
        return data[f"{system}/{name}"]

    order = np.argsort(get("centers"), kind="stable")
    atoms, edges = len(get("numbers")), len(order)
    graph = AtomGraph(
        numbers=get("numbers").astype(np.int32),
        positions=get("positions"),
        cell=get("cell")[None],
        graph_index=np.zeros(atoms, np.int32),
        senders=get("neighbors")[order].astype(np.int32),
        receivers=get("centers")[order].astype(np.int32),
        shifts=get("shifts")[order].astype(np.int32),
        node_mask=np.ones(atoms, bool),
        edge_mask=np.ones(edges, bool),
        graph_mask=np.ones(1, bool),
    )
    return graph, get("edge_rotations")[order]


@pytest.mark.parametrize(
    ("key", "value"),
    [("use_s2_act_attn", True), ("lmax_list", [4, 6]), ("grid_resolution", None)],
)
def test_a_setting_that_is_not_read_is_an_error(key, value):
    _, config, _ = reference()
    with pytest.raises(ValueError, match=key):
        equiformer_v2.module_from_config({**config, key: value})


def test_a_missing_parameter_is_named():
    _, config, weights = reference()
    weights.pop("blocks.1.ga.alpha_dot")
    with pytest.raises(ValueError, match=r"blocks\.1\.ga\.alpha_dot"):
        from_reference(config, weights)


def test_a_parameter_nobody_reads_is_named():
    _, config, weights = reference()
    weights["blocks.7.extra"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"blocks\.7\.extra"):
        from_reference(config, weights)
