"""Optimisers, schedules and the moving average against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.config.training import DecayGroup, OptimizerSettings, ScheduleSettings
from mlffjax.training.optimizer import (
    decay_rates,
    learning_rate,
    make_optimizer,
    parameter_paths,
    update_average,
)
from mlffjax.training.state import Progress

PARAMS = {"params": {"a": {"kernel": jnp.array([1.0, -2.0])}, "b": jnp.array([3.0])}}


def descent(settings: OptimizerSettings, gradients: list[float]) -> float:
    """The last direction of a single parameter of value 2 under the gradients."""
    params = {"w": jnp.array(2.0)}
    optimizer = make_optimizer(params, settings)
    state, direction = optimizer.init(params), {"w": jnp.array(0.0)}
    for gradient in gradients:
        direction, state = optimizer.update({"w": jnp.array(gradient)}, state, params)
    return float(direction["w"])


def test_adam_second_step() -> None:
    settings = OptimizerSettings(clip_norm=None)
    first = (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.9**2)
    second = (0.999 * 0.001 * 1 + 0.001 * 9) / (1 - 0.999**2)
    assert descent(settings, [1.0, 3.0]) == pytest.approx(first / (second**0.5 + 1e-8), rel=1e-9)


def test_amsgrad_keeps_the_largest_second_moment() -> None:
    quiet = [1.0] + [1e-3] * 100
    assert abs(descent(OptimizerSettings(name="amsgrad", beta2=0.9), quiet)) < 0.1 * abs(
        descent(OptimizerSettings(name="adam", beta2=0.9), quiet)
    )


def test_amsgrad_is_not_bound_by_the_first_gradient_alone() -> None:
    """By hand: the first second moment counts with its weight ``1 - beta2``, not wholly."""
    settings = OptimizerSettings(name="amsgrad", beta2=0.99, clip_norm=None)
    gradients = [100.0] + [1.0] * 499
    first = second = largest = 0.0
    for g in gradients:
        first, second = 0.9 * first + 0.1 * g, 0.99 * second + 0.01 * g**2
        largest = max(largest, second)
    by_hand = first / ((largest / (1 - 0.99**500)) ** 0.5 + 1e-8)
    assert by_hand == pytest.approx(0.1, rel=0.01)
    assert descent(settings, gradients) == pytest.approx(by_hand, rel=1e-5)


def test_clipping_by_global_norm_precedes_the_moments() -> None:
    clipped = OptimizerSettings(clip_norm=1.0, epsilon=1.0)
    assert descent(clipped, [100.0]) == pytest.approx(0.5, rel=1e-9)


def test_decay_is_decoupled_only_in_adamw() -> None:
    # One step of Adam from zero moments goes by the sign of what it is given.
    assert descent(OptimizerSettings(weight_decay=0.5), [-0.9]) == pytest.approx(1, rel=1e-6)
    adamw = OptimizerSettings(name="adamw", weight_decay=0.5)
    assert descent(adamw, [-0.9]) == pytest.approx(-1 + 0.5 * 2, abs=1e-6)


def test_decay_groups_by_pattern() -> None:
    assert parameter_paths(PARAMS) == ("params/a/kernel", "params/b")
    groups = (DecayGroup(pattern="*/a/*", value=0.5),)
    rates = decay_rates(PARAMS, OptimizerSettings(weight_decay=0.1, weight_decay_groups=groups))
    assert rates == {"params": {"a": {"kernel": 0.5}, "b": 0.1}}
    wrong = (DecayGroup(pattern="*/product/*", value=0.5),)
    with pytest.raises(ValueError, match="matches no parameter"):
        decay_rates(PARAMS, OptimizerSettings(weight_decay_groups=wrong))


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        (ScheduleSettings(name="constant"), 10**6, 1e-3),
        (ScheduleSettings(), 0, 1e-3),
        (ScheduleSettings(), 200_000, 1e-3 * 0.7**2),
        (ScheduleSettings(), 50_000, 1e-3 * 0.7**0.5),
        (ScheduleSettings(staircase=True), 199_999, 1e-3 * 0.7),
        (ScheduleSettings(name="constant", warmup_steps=10), 0, 1e-4),
        (ScheduleSettings(name="constant", warmup_steps=10), 9, 1e-3),
        (ScheduleSettings(name="cosine", warmup_steps=100, minimum=0.1), 100, 1e-3),
        (ScheduleSettings(name="cosine", warmup_steps=100, minimum=0.1), 550, 1e-3 * 0.55),
        (ScheduleSettings(name="cosine", warmup_steps=100, minimum=0.1), 1000, 1e-4),
    ],
)
def test_learning_rate(settings: ScheduleSettings, step: int, expected: float) -> None:
    rate = learning_rate(jnp.asarray(step), settings, 1e-3, 1000)
    np.testing.assert_allclose(rate, expected, rtol=1e-6)


def test_plateau_falls_after_patience_and_not_below_the_minimum() -> None:
    settings = ScheduleSettings(name="plateau", factor=0.5, patience=1, minimum=0.2)
    progress, factors = Progress(), []
    for step, value in enumerate([3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 1.0]):
        progress = progress.validated(value, step, settings)
        factors.append(progress.plateau_factor)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]
    assert (progress.best_value, progress.best_step) == (1.0, 8)


def test_average_warms_up() -> None:
    first = update_average(jnp.array(1.0), jnp.array(2.0), jnp.asarray(0), 0.99)
    late = update_average(jnp.array(1.0), jnp.array(2.0), jnp.asarray(10**6), 0.99)
    np.testing.assert_allclose([first, late], [1.9, 1.01], rtol=1e-6)
