"""Wigner blocks: right for every direction, smooth along paths across poles and charts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gauges import twist
from scipy.spatial.transform import Rotation

from mlffjax.nn.s2_grid import real_harmonics
from mlffjax.nn.wigner import (
    _CHART_NORMAL,
    order_rescale,
    rotate,
    rotate_back,
)
from mlffjax.nn.wigner import edge_rotation as eager_edge_rotation

edge_rotation = jax.jit(eager_edge_rotation, static_argnums=(1, 2))

DEGREE = 8
AXES = np.concatenate([np.eye(3), -np.eye(3)])


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, float)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def directions() -> np.ndarray:
    """Random ones, all axes, and ones at and next to the poles and the edge of the charts."""
    rng = np.random.default_rng(0)
    near = np.array([[1e-9, 0, 1], [0, -1e-9, -1], [1e-4, 1e-4, -1], [-1e-4, 1e-5, 1]])
    border = np.cross(_CHART_NORMAL, rng.normal(size=(4, 3)))
    shifted = border + 1e-9 * np.asarray(_CHART_NORMAL) * np.array([[1], [-1], [1], [-1]])
    return unit(np.concatenate([rng.normal(size=(20, 3)), AXES, near, border, shifted]))


def full(block) -> np.ndarray:
    """Rows of a complete block in the order ``m = -l..l``."""
    degree = (block.shape[1] - 1) // 2
    order = [2 * degree - k for k in range(degree)] + list(range(degree + 1))
    return np.asarray(block)[:, order]


def wigner_by_fit(matrix: np.ndarray, degree: int) -> np.ndarray:
    """``D`` with ``Y(R v) = D Y(v)``, solved from random points."""
    points = unit(np.random.default_rng(1).normal(size=(200, 3)))
    columns = slice(degree**2, (degree + 1) ** 2)
    before = real_harmonics(points, degree)[:, columns]
    after = real_harmonics(points @ matrix.T, degree)[:, columns]
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def test_blocks_turn_harmonics_and_the_edge_onto_the_polar_axis():
    vectors = directions()
    blocks = edge_rotation(jnp.asarray(vectors), DEGREE, DEGREE)
    cartesian = full(blocks[1])[:, [2, 0, 1]][:, :, [2, 0, 1]]  # (y, z, x) -> (x, y, z)
    np.testing.assert_allclose(
        cartesian @ vectors[:, :, None],
        np.tile([[0.0], [0], [1]], (len(vectors), 1, 1)),
        atol=1e-14,
    )
    np.testing.assert_allclose(np.linalg.det(cartesian), 1, atol=1e-13)
    for degree in range(DEGREE + 1):
        expected = np.stack([wigner_by_fit(matrix, degree) for matrix in cartesian])
        np.testing.assert_allclose(full(blocks[degree]), expected, atol=1e-12)


def test_orders_above_the_highest_are_left_out():
    vectors = jnp.asarray(directions())
    whole, part = edge_rotation(vectors, 5, 5), edge_rotation(vectors, 5, 2)
    for degree, (a, b) in enumerate(zip(whole, part, strict=True)):
        top = min(degree, 2)
        assert b.shape[1] == 2 * top + 1
        rows = [*range(top + 1), *range(degree + 1, degree + top + 1)]
        np.testing.assert_allclose(b, a[:, rows], atol=1e-14)


def axial(vectors, features, weights, angles=None):
    """A gauge-free map: every order times a weight, in the frame of the edge."""
    rotation = edge_rotation(vectors, DEGREE, DEGREE)
    if angles is not None:
        rotation = twist(rotation, angles)
    orders = rotate(rotation, features)
    return rotate_back(rotation, tuple(w * x for w, x in zip(weights, orders, strict=True)), DEGREE)


def paths() -> list[np.ndarray]:
    """Great circles through both poles, one through all charts, one just past the poles."""
    angle = np.linspace(0, 2 * np.pi, 25)
    circles = []
    for azimuth in (0.0, np.pi / 2, 0.7):
        side = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        circles.append(np.outer(np.sin(angle), side) + np.outer(np.cos(angle), [0, 0, 1]))
    circles.append(circles[0] @ Rotation.from_rotvec([1e-5, 0, 0]).as_matrix().T)
    circles.append(circles[0] @ Rotation.from_rotvec([0.3, 1.1, 0.2]).as_matrix().T)
    return circles


@pytest.mark.parametrize("path", paths(), ids=["xz", "yz", "skew", "past_pole", "tilted"])
def test_gauge_free_results_and_their_gradients_are_smooth_along(path):
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(len(path), (DEGREE + 1) ** 2, 1)))
    other = jnp.asarray(rng.normal(size=features.shape))
    features, other = (jnp.broadcast_to(x[:1], x.shape) for x in (features, other))
    weights = rng.normal(size=DEGREE + 1)

    @jax.jit
    def values(vectors):
        lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        return (other * axial(vectors / lengths, features, weights)).sum(axis=(1, 2))

    gradient = np.asarray(jax.jit(jax.grad(lambda v: values(v).sum()))(jnp.asarray(path)))
    assert np.isfinite(gradient).all()
    scale = np.abs(gradient).max()
    for along in np.eye(3):
        step = 1e-5 * along
        numeric = (values(jnp.asarray(path + step)) - values(jnp.asarray(path - step))) / 2e-5
        np.testing.assert_allclose(gradient @ along, numeric, atol=1e-7 * scale)
    # A closed path, so the last point has to give what the first does.
    np.testing.assert_allclose(values(jnp.asarray(path))[-1], values(jnp.asarray(path))[0])


def test_gauge_free_results_do_not_depend_on_the_angle_about_the_edge():
    vectors = jnp.asarray(directions())
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.normal(size=(len(vectors), (DEGREE + 1) ** 2, 2)))
    weights = rng.normal(size=DEGREE + 1)
    angles = jnp.asarray(rng.uniform(0, 2 * np.pi, len(vectors)))
    plain, turned = axial(vectors, features, weights), axial(vectors, features, weights, angles)
    np.testing.assert_allclose(turned, plain, atol=1e-11)


def test_derivatives_are_bounded_up_to_the_border_of_the_charts():
    """The connection of the shortest arc grows towards its own singularity, which is far."""
    vectors = jnp.asarray(directions())
    jacobian = jax.vmap(jax.jacfwd(lambda v: edge_rotation(v[None], 1, 1)[1]))(vectors)
    assert np.abs(jacobian).max() < 2.5


def test_rotating_there_and_back_is_the_identity():
    vectors = jnp.asarray(directions())
    features = jnp.asarray(np.random.default_rng(4).normal(size=(len(vectors), 16, 3)))
    rotation = edge_rotation(vectors, 3, 3)
    np.testing.assert_allclose(
        rotate_back(rotation, rotate(rotation, features), 3), features, atol=1e-13
    )


def test_truncated_degrees_are_enlarged():
    vectors = jnp.asarray(directions())
    rotation = edge_rotation(vectors, 3, 1)
    zonal = (jnp.ones((len(vectors), 4, 1)),)
    result = np.asarray(rotate_back(tuple(b[:, :1] for b in rotation), zonal, 1))[:, :, 0]
    harmonics = real_harmonics(np.asarray(vectors), 3)
    for degree, factor in ((1, 1.0), (2, np.sqrt(5 / 3)), (3, np.sqrt(7 / 3))):
        assert order_rescale(degree, 1) == pytest.approx(factor)
        columns = slice(degree**2, (degree + 1) ** 2)
        zonal_harmonic = np.sqrt(4 * np.pi / (2 * degree + 1)) * harmonics[:, columns]
        np.testing.assert_allclose(result[:, columns], factor * zonal_harmonic, atol=1e-13)


def test_single_precision_is_kept_and_accurate():
    vectors = directions()
    single = edge_rotation(jnp.asarray(vectors, jnp.float32), DEGREE, DEGREE)
    double = edge_rotation(jnp.asarray(vectors), DEGREE, DEGREE)
    away = np.abs(vectors @ np.asarray(_CHART_NORMAL)) > 1e-6  # the same chart in both
    for a, b in zip(single, double, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a[away], b[away], atol=1e-5)


def test_an_order_above_the_degree_is_an_error():
    with pytest.raises(ValueError, match="max_order 3"):
        edge_rotation(jnp.ones((1, 3)), 2, 3)
