"""Norms of spherical features: their statistics, rotations, and zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.so3_linear import SO3Linear
from mlffjax.nn.so3_norm import SphericalNorm

KINDS = ["separable", "degree_wise", "rms"]


def features(seed: int = 0):
    return jnp.asarray(3 * np.random.default_rng(seed).normal(size=(6, 16, 5)) + 0.5)


def apply(kind: str, inputs):
    return SphericalNorm(kind).init_with_output(jax.random.key(0), inputs)[0]


def squares(array) -> np.ndarray:
    """Mean square of each degree ``[n, degrees]``."""
    parts = [np.asarray(array)[:, n**2 : (n + 1) ** 2] for n in range(4)]
    return np.stack([np.mean(part**2, axis=(1, 2)) for part in parts], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_normalised(kind):
    inputs, result = features(), apply(kind, features())
    got = squares(result)
    if kind == "degree_wise":
        np.testing.assert_allclose(got, 1, atol=1e-4)
    elif kind == "rms":
        np.testing.assert_allclose(got.mean(axis=1), 1, atol=1e-4)
    else:
        np.testing.assert_allclose(got[:, 0], 1, atol=1e-4)
        np.testing.assert_allclose(got[:, 1:].mean(axis=1), 1, atol=1e-4)
        ratio = squares(inputs)[:, 1:]
        np.testing.assert_allclose(got[:, 1] / got[:, 3], ratio[:, 0] / ratio[:, 2])
    np.testing.assert_allclose(np.asarray(result)[:, 0].mean(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("layer", [*map(SphericalNorm, KINDS), SO3Linear(4)])
def test_orthogonal_maps_of_a_degree_commute(layer):
    inputs = features()
    turns = [
        np.linalg.qr(np.random.default_rng(n).normal(size=(2 * n + 1,) * 2))[0] for n in (1, 2, 3)
    ]

    def turned(array):
        parts = [array[:, n**2 : (n + 1) ** 2] for n in range(4)]
        rest = [jnp.einsum("ij,njc->nic", q, p) for q, p in zip(turns, parts[1:], strict=True)]
        return jnp.concatenate([parts[0], *rest], axis=1)

    params = layer.init(jax.random.key(0), inputs)
    params = jax.tree.map(lambda x: x + 0.3 * jnp.arange(x.size).reshape(x.shape), params)
    first, second = layer.apply(params, turned(inputs)), turned(layer.apply(params, inputs))
    np.testing.assert_allclose(first, second, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zero_with_a_finite_gradient(kind):
    zeros = jnp.zeros((2, 16, 5))
    assert not apply(kind, zeros).any()
    gradient = jax.grad(lambda x: apply(kind, x).sum())(zeros)
    assert np.isfinite(gradient).all()


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="layer_norm"):
        apply("layer_norm", features())
