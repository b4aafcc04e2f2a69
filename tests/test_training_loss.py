"""The loss against numbers computed by hand, and its masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.config.base import ConfigError
from mlffjax.config.training import LossSettings, TrainingSettings
from mlffjax.data.loader import Targets
from mlffjax.graph import AtomGraph
from mlffjax.potential import Prediction
from mlffjax.training.loss import loss


def batch_of_two() -> tuple[Prediction, Targets, AtomGraph]:
    """Structures of one and two atoms and a padded third; errors are small whole numbers."""
    nan = jnp.nan
    graph = AtomGraph(
        numbers=jnp.array([1, 1, 1, 0]),
        positions=jnp.zeros((4, 3)),
        cell=jnp.zeros((3, 3, 3)),
        graph_index=jnp.array([0, 1, 1, 2]),
        senders=jnp.zeros(0, int),
        receivers=jnp.zeros(0, int),
        shifts=jnp.zeros((0, 3), int),
        node_mask=jnp.array([True, True, True, False]),
        edge_mask=jnp.zeros(0, bool),
        graph_mask=jnp.array([True, True, False]),
    )
    prediction = Prediction(
        energy=jnp.array([3.0, 6.0, nan]),
        baseline=jnp.zeros(3),
        node_energy=jnp.zeros(4),
        forces=jnp.array([[1.0, 2, 2], [3, 0, 4], [0, 0, 0], [nan, nan, nan]]),
        stress=jnp.stack([jnp.full((3, 3), nan), jnp.full((3, 3), 2.0), jnp.full((3, 3), nan)]),
    )
    true = jnp.array([True, True, False])
    targets = Targets(
        energy=jnp.array([1.0, 2.0, 0.0]),
        forces=jnp.zeros((4, 3)),
        stress=jnp.zeros((3, 3, 3)),
        has_energy=true,
        has_forces=true,
        has_stress=jnp.array([False, True, False]),
    )
    return prediction, targets, graph


# Errors: energy 2 and 4 eV (2 and 2 an atom); squared forces 9 | 25, 0; stress 2 everywhere.
CASES = {
    # (1 - 0.99) (4 + 16) / 2 + 0.99 (9 / 3 + 25 / 6) / 2
    "so3krates_eq29": (LossSettings(), 0.01 * 10 + 0.99 * (3 + 25 / 6) / 2),
    # (4 + 16) / 2 + 1000 (9 + 25) / (3 * 3)
    "mace_eq15": (
        LossSettings(energy_weight=1, forces_weight=1000, forces_by="atom"),
        10 + 1000 * 34 / 9,
    ),
    "energy_by_atom": (LossSettings(energy_weight=1, forces_weight=0, energy_by="atom"), 4.0),
    "mae": (
        LossSettings(energy_weight=1, energy_kind="mae", forces_kind="mae", forces_by="atom",
                     forces_weight=1),
        3 + (5 + 7) / 9,
    ),
    "norm": (
        LossSettings(energy_weight=0, forces_kind="l2", forces_by="atom", forces_weight=3),
        3 * (3 + 5 + 0) / 3,
    ),
    "huber": (
        LossSettings(energy_weight=1, energy_kind="huber", huber_delta=2.5, forces_weight=0),
        (0.5 * 4 + 2.5 * (4 - 1.25)) / 2,
    ),
    "stress": (LossSettings(energy_weight=0, forces_weight=0, stress_weight=2), 2 * 4.0),
    "stress_norm": (
        LossSettings(energy_weight=0, forces_weight=0, stress_weight=1, stress_kind="l2"),
        6.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value(name: str) -> None:
    settings, expected = CASES[name]
    value, terms = loss(*batch_of_two(), settings)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert set(terms) <= {"energy", "forces", "stress"}


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_finite_with_nan_in_padding_and_missing_labels(name: str) -> None:
    prediction, targets, graph = batch_of_two()
    settings = CASES[name][0]
    gradient = jax.grad(lambda p: loss(p, targets, graph, settings)[0])(prediction)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert any((x != 0).any() for x in jax.tree.leaves(gradient))


def test_missing_labels_leave_the_mean_to_the_others() -> None:
    prediction, targets, graph = batch_of_two()
    only_first = targets.replace(
        has_energy=jnp.array([True, False, False]), has_forces=jnp.array([False, True, False])
    )
    _, terms = loss(prediction, only_first, graph, LossSettings())
    np.testing.assert_allclose(terms["energy"], 4.0)
    np.testing.assert_allclose(terms["forces"], 25 / 6)
    nothing = targets.replace(has_energy=jnp.zeros(3, bool), has_forces=jnp.zeros(3, bool))
    assert float(loss(prediction, nothing, graph, LossSettings())[0]) == 0.0


def test_settings_reject_nonsense_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"exactly one of 'epochs' and 'steps'"):
        TrainingSettings.parse({"epochs": 1, "steps": 2})
    with pytest.raises(ConfigError, match=r"'loss.energy_weigth'; did you mean 'energy_weight'"):
        TrainingSettings.parse({"steps": 2, "loss": {"energy_weigth": 1}})
    with pytest.raises(ConfigError, match="at least one of the loss weights"):
        TrainingSettings.parse({"steps": 2, "loss": {"energy_weight": 0, "forces_weight": 0}})
