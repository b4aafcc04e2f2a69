"""AlphaNet against the published implementation, and what its smooth formulas cure."""

import json
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from systems import molecule

from mlffjax.interop import from_reference
from mlffjax.models.alphanet import AlphaNet
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

PARITY = Path(__file__).parent / "data" / "parity" / "alphanet.npz"
SMALL = helpers.SMALL["alphanet"] | {"cutoff": helpers.CUTOFF}


def reference():
    data = np.load(PARITY)
    prefix = "weights/"
    weights = {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}
    return data, json.loads(str(data["config"])), weights


@pytest.mark.parametrize(
    ("system", "dtype", "tolerance"),
    [
        ("ethanol", jnp.float64, 1e-9),
        ("formic_acid", jnp.float64, 1e-9),
        ("formic_acid", jnp.float32, 1e-4),
    ],
)
def test_energy_and_forces_equal_the_reference(system, dtype, tolerance):
    data, config, weights = reference()
    potential = from_reference(config, weights, dtype=dtype)

    def get(name):
        return data[f"{system}/{name}"]

    graph = atom_graph(
        get("numbers"),
        get("positions"),
        np.zeros((3, 3)),
        np.zeros(3, bool),
        potential.cutoff,
        dtype,
    )
    assert len(graph.senders) == len(get("centers"))
    result = jax.jit(Potential.energy_forces)(potential, graph)
    assert result.energy.dtype == dtype
    np.testing.assert_allclose(result.energy[0], get("energy")[0], rtol=tolerance)
    scale = np.abs(get("forces")).max()
    np.testing.assert_allclose(result.forces, get("forces"), rtol=0, atol=tolerance * scale)


def test_unused_parameters_are_dropped_and_others_named():
    _, config, weights = reference()
    unused = [k for k in weights if k.endswith(("unitary", "fc_dx.weight", "fc_dx.bias"))]
    assert len(unused) == 3 * config["num_layers"]
    kept = from_reference(config, weights)
    without = {k: v for k, v in weights.items() if k not in unused}
    assert from_reference(config, without).num_parameters == kept.num_parameters
    with pytest.raises(ValueError, match=r"message_layers\.7\.extra"):
        from_reference(config, weights | {"message_layers.7.extra": np.zeros(1)})
    weights.pop("FTEs.1.vec_proj.weight")
    with pytest.raises(ValueError, match=r"FTEs\.1\.vec_proj\.weight"):
        from_reference(config, weights)


@pytest.fixture(scope="module")
def smooth():
    return helpers.Model(AlphaNet(**SMALL))


@pytest.fixture(scope="module")
def published():
    return helpers.Model(AlphaNet(**SMALL, published=True))


def _forces_at(model, atoms, index, shifts):
    forces = []
    for shift in shifts:
        moved = atoms.copy()
        moved.positions[index] += shift
        forces.append(model.predict(moved).forces)
    return forces


@pytest.mark.slow
def test_only_the_default_is_continuous_at_the_cutoff(smooth, published):
    """A third atom that crosses the cutoff of the first of two."""
    assert smooth.module.smooth
    assert not published.module.smooth

    def jump(model):
        energies = [
            float(
                model.predict(
                    Atoms("SiOC", [[0, 0, 0], [1.5, 0, 0], [0, 0, helpers.CUTOFF + shift]])
                ).energy[0]
            )
            for shift in (-1e-7, 1e-7)
        ]
        return abs(energies[1] - energies[0])

    assert jump(published) > 1e-3
    assert jump(smooth) < 1e-6


def test_planar_molecules_have_no_kink(smooth, published):
    """As published the forces jump when an atom passes through the plane of the others."""
    flat = Atoms("CO2H", [[0, 0, 0], [1.2, 0, 0], [-0.6, 1.1, 0], [-0.7, -0.8, 0]])
    step = np.array([0, 0, 1e-6])

    def jump(model):
        below, above = _forces_at(model, flat, 3, (-step, step))
        return np.abs(above - below).max()

    assert jump(published) > 1e-3
    assert jump(smooth) < 1e-4


def test_only_the_default_is_invariant_under_rotation(published):
    helpers_rotation = helpers.rotation()
    turned = molecule()
    before = published.predict(turned).energy[0]
    turned.positions = turned.positions @ helpers_rotation.T
    assert abs(published.predict(turned).energy[0] - before) > 1e-8
    assert not published.module.mirror_symmetric


def test_size_of_the_published_model():
    shapes = jax.eval_shape(lambda: Potential.init(AlphaNet(), range(1, 95), jax.random.key(0)))
    size = sum(x.size for x in jax.tree.leaves(shapes.params))
    width, layers, phases = 176, 4, 20
    unused = layers * (phases**2 + phases * width + width)
    rows = 2 * width + 2 * (108 - 94)
    assert size + unused + rows == pytest.approx(4_653_577, rel=2e-4)


def test_unusable_settings_are_refused():
    for settings, message in (
        ({"num_features": 10}, "features; expected a multiple of 4"),
        ({"contraction_size": 5}, "contraction_size; expected a multiple of 2"),
        ({"num_heads": 12, "contraction_size": 12}, "8 features for 12 heads"),
    ):
        with pytest.raises(ValueError, match=message):
            helpers.Model(AlphaNet(**SMALL | settings))
