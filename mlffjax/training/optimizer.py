"""Optimiser, learning rate schedule and moving average of the parameters."""

import fnmatch
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mlffjax.config.training import OptimizerSettings, ScheduleSettings
from mlffjax.types import Params


def parameter_paths(params: Params) -> tuple[str, ...]:
    """Paths such as ``params/layer_0/Dense_0/kernel``, in the order of the leaves."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return tuple("/".join(str(getattr(k, "key", k)) for k in path) for path, _ in leaves)


def decay_rates(params: Params, settings: OptimizerSettings) -> Params:
    """Weight decay of each parameter, as a tree of numbers.

    Raises:
      ValueError: a group's pattern matches no parameter.
    """
    paths = parameter_paths(params)
    for group in settings.weight_decay_groups:
        if not fnmatch.filter(paths, group.pattern):
            raise ValueError(
                f"got the weight decay pattern {group.pattern!r}, which matches no parameter; "
                f"expected a shell pattern of paths such as {', '.join(paths[:4])}"
            )

    def rate(path: str) -> float:
        for group in settings.weight_decay_groups:
            if fnmatch.fnmatchcase(path, group.pattern):
                return group.value
        return settings.weight_decay

    return jax.tree.unflatten(jax.tree.structure(params), [rate(p) for p in paths])


def make_optimizer(params: Params, settings: OptimizerSettings) -> optax.GradientTransformation:
    """The descent direction, to be multiplied by the learning rate and subtracted.

    Clipping comes first, then the decay that ``adam`` and ``amsgrad`` add to the gradient,
    then the moments, then the decay that ``adamw`` adds to the direction. ``amsgrad`` is
    :func:`scale_by_amsgrad`.

    Raises:
      ValueError: as :func:`decay_rates`.
    """
    rates = decay_rates(params, settings)
    decay = [] if not any(jax.tree.leaves(rates)) else [_add_decay(rates)]
    moments = {
        "adam": optax.scale_by_adam,
        "adamw": optax.scale_by_adam,
        "amsgrad": scale_by_amsgrad,
    }[settings.name](b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon)
    clip = [] if settings.clip_norm is None else [optax.clip_by_global_norm(settings.clip_norm)]
    if settings.name == "adamw":
        return optax.chain(*clip, moments, *decay)
    return optax.chain(*clip, *decay, moments)


def scale_by_amsgrad(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """AMSGrad (Reddi et al. 2018, algorithm 2) with Adam's correction of the bias, as in PyTorch.

    The largest second moment is that of the moving average that starts at zero (the paper's
    ``max(v, v_t)``); it is corrected after the maximum. Corrected before, as by
    ``optax.scale_by_amsgrad``, the moment of the first few steps, which is that of the largest
    gradients, would bound the steps of the whole training.

    Args:
      b1, b2: decay of the two moments.
      eps: added to the square root.
    """

    def init(params: Params) -> optax.ScaleByAmsgradState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByAmsgradState]:
        del params
        first = optax.tree.update_moment(updates, state.mu, b1, 1)
        second = optax.tree.update_moment(updates, state.nu, b2, 2)
        largest = jax.tree.map(jnp.maximum, state.nu_max, second)
        count = state.count + 1
        direction = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + eps),
            optax.tree.bias_correction(first, b1, count),
            optax.tree.bias_correction(largest, b2, count),
        )
        return direction, optax.ScaleByAmsgradState(count, first, second, largest)

    return optax.GradientTransformation(init, update)


def _add_decay(rates: Params) -> optax.GradientTransformation:
    def update(updates: Params, params: Params | None) -> Params:
        return jax.tree.map(lambda u, p, r: u + r * p, updates, params, rates)

    return optax.stateless(update)


def learning_rate(
    step: Int[Array, ""], settings: ScheduleSettings, initial: float, total_steps: int
) -> Float[Array, ""]:
    """Learning rate of a step (from 0), without the factor of ``plateau``.

    Args:
      step: number of the update.
      settings: kind, warm-up and decay.
      initial: the optimiser's learning rate.
      total_steps: where ``cosine`` ends.
    """
    warmup = settings.warmup_steps
    if settings.name == "exponential":
        schedule = optax.exponential_decay(
            initial, settings.interval, settings.factor, staircase=settings.staircase
        )
    elif settings.name == "cosine":
        schedule = optax.cosine_decay_schedule(
            initial, max(1, total_steps - warmup), settings.minimum
        )
    else:
        schedule = optax.constant_schedule(initial)
    after = schedule(jnp.maximum(step - warmup, 0)) if settings.name == "cosine" else schedule(step)
    rise = jnp.minimum((step + 1) / warmup, 1) if warmup else 1.0
    return jnp.asarray(after * rise)


def update_average(average: Params, params: Params, step: Int[Array, ""], decay: float) -> Params:
    """Exponential moving average of the parameters after update number ``step``.

    The decay starts as ``(1 + step) / (10 + step)`` until it reaches ``decay``, so that the
    random initial parameters are forgotten at the pace of training (the rule of TensorFlow's
    ExponentialMovingAverage).
    """
    rate = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: a + (1 - rate).astype(p.dtype) * (p - a), average, params)
