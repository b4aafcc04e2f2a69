"""PaiNN against its equations written out atom by atom, and its force head."""

import contract
import helpers
import jax
import numpy as np
import pytest
from systems import molecule

from mlffjax.models.painn import PaiNN
from mlffjax.potential import Potential

SMALL = helpers.SMALL["painn"] | {"cutoff": helpers.CUTOFF}


def silu(x):
    return x / (1 + np.exp(-x))


def affine(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def network(params, x):
    return affine(params["layer_1"], silu(affine(params["layer_0"], x)))


def energies_by_the_equations(module, params, species, positions):
    """Eqs. 7 to 10 of the paper, one pair at a time, without neighbour lists."""
    width, count = module.num_features, len(species)
    s = params["embedding"]["embedding"][species]
    v = np.zeros((count, width, 3))
    n = np.arange(1, module.num_radial + 1)
    for layer in range(module.num_layers):
        message, update = params[f"message_{layer}"], params[f"update_{layer}"]
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        for i in range(count):
            for j in range(count):
                r = positions[j] - positions[i]
                d = np.linalg.norm(r)
                if i == j or d >= module.cutoff:
                    continue
                basis = np.sin(n * np.pi * d / module.cutoff) / d
                cut = 0.5 * (np.cos(np.pi * d / module.cutoff) + 1)
                x = network(message["sources"], s[j]) * affine(message["filters"], basis) * cut
                force, scalar, *gate = np.split(x, 2 if layer == 0 else 3)
                ds[i] += scalar
                dv[i] += np.outer(force, r / d)
                if gate:
                    dv[i] += gate[0][:, None] * v[j]
        s, v = s + ds, v + dv
        mixing_u, mixing_v = np.split(update["vectors"]["kernel"], 2, axis=1)
        u = np.einsum("ifx,fg->igx", v, mixing_u)
        w = np.einsum("ifx,fg->igx", v, mixing_v)
        length = np.sqrt((w**2).sum(2) + module.norm_rounding**2)
        ss, sv, vv = np.split(
            network(update["scalars"], np.concatenate([s, length], axis=1)), 3, axis=1
        )
        s = s + ss + sv * (u * w).sum(2)
        v = v + vv[:, :, None] * u
    return network(params["readout"], s)[:, 0]


@pytest.fixture(scope="module")
def model():
    return helpers.Model(PaiNN(**SMALL))


def test_energies_follow_the_equations(model):
    atoms = molecule()
    params = jax.tree.map(np.asarray, model.potential.params["params"])
    species = np.searchsorted(model.potential.elements, atoms.numbers)
    expected = energies_by_the_equations(model.module, params, species, atoms.positions)
    np.testing.assert_allclose(model.predict(atoms).node_energy, expected, rtol=1e-9)


def test_size_of_the_published_model():
    """About 0.6 million parameters; the first layer is without those that cannot act."""
    shapes = jax.eval_shape(lambda: Potential.init(PaiNN(), range(1, 101), jax.random.key(0)))
    width, radial = 128, 20
    without = width * width + width + radial * width + width
    published = 100 * width + 8321 + 3 * 189_312
    assert sum(x.size for x in jax.tree.leaves(shapes.params)) == published - without


@pytest.fixture(scope="module")
def with_force_head():
    return helpers.Model(PaiNN(**SMALL, force_head=True))


@pytest.mark.parametrize(
    "check",
    [
        contract.check_rotation,
        contract.check_reflection,
        contract.check_padding,
        contract.check_batch,
    ],
)
def test_direct_forces_keep_the_contract(with_force_head, check):
    check(with_force_head)


def test_direct_forces_are_no_gradient(with_force_head):
    with pytest.raises(AssertionError, match="forces and -dE/dr"):
        contract.check_forces_are_gradient(with_force_head)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="even number"):
        helpers.Model(PaiNN(**SMALL | {"num_features": 7}))
