"""The training loss: weighted errors of energy, forces and stress, missing labels masked."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mlffjax.config.training import ErrorKind, LossSettings
from mlffjax.data.loader import Targets
from mlffjax.graph import AtomGraph
from mlffjax.nn.scatter import masked, sum_over_graph
from mlffjax.potential import Prediction


def loss(
    prediction: Prediction,
    targets: Targets,
    graph: AtomGraph,
    settings: LossSettings,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted loss of a batch and its terms before weighting.

    With the default settings this is eq. 29 of SO3krates (Frank et al. 2024) averaged over the
    batch; with ``energy_weight=1, forces_weight=1000, forces_by="atom"`` eq. 15 of MACE
    (Batatia et al. 2022).

    Args:
      prediction: of the potential, with the forces and stress that carry weight.
      targets: labels and their masks.
      graph: the padded batch.
      settings: weights and kinds of the terms.
      axis_name: mesh axis over which the batch is split. The means are then over the whole
        batch, and the losses and gradients of the parts add up to its loss and gradient.

    Raises:
      ValueError: a term with weight is missing in the prediction.
    """
    terms = {}
    if settings.energy_weight:
        terms["energy"] = _energy_term(prediction, targets, graph, settings, axis_name)
    if settings.forces_weight:
        terms["forces"] = _forces_term(prediction, targets, graph, settings, axis_name)
    if settings.stress_weight:
        terms["stress"] = _stress_term(prediction, targets, settings, axis_name)
    weights = {
        "energy": settings.energy_weight,
        "forces": settings.forces_weight,
        "stress": settings.stress_weight,
    }
    return jnp.stack([weights[name] * term for name, term in terms.items()]).sum(), terms


def _energy_term(
    prediction: Prediction,
    targets: Targets,
    graph: AtomGraph,
    settings: LossSettings,
    axis_name: str | None,
) -> Float[Array, ""]:
    # Masked before the penalty, so that what stands in padding never meets a derivative.
    error = masked(prediction.energy - targets.energy, targets.has_energy)
    if settings.energy_by == "atom":
        error = error / _num_atoms(graph, error)
    values = _penalty(error[:, None], settings.energy_kind, settings.huber_delta)
    return _mean(values, targets.has_energy, axis_name)


def _forces_term(
    prediction: Prediction,
    targets: Targets,
    graph: AtomGraph,
    settings: LossSettings,
    axis_name: str | None,
) -> Float[Array, ""]:
    if prediction.forces is None:
        raise ValueError("got a prediction without forces; expected them for the forces term")
    labelled = graph.node_mask & targets.has_forces[graph.graph_index]
    error = masked(prediction.forces - targets.forces, labelled)
    values = _penalty(error, settings.forces_kind, settings.huber_delta)
    if settings.forces_by == "atom":
        return _mean(values, labelled, axis_name)
    by_structure = sum_over_graph(values, graph) / _num_atoms(graph, values)  # type: ignore[arg-type]
    return _mean(by_structure, targets.has_forces, axis_name)


def _stress_term(
    prediction: Prediction, targets: Targets, settings: LossSettings, axis_name: str | None
) -> Float[Array, ""]:
    if prediction.stress is None:
        raise ValueError("got a prediction without stress; expected it for the stress term")
    # Selected before the difference: a molecule's stress is NaN, and so would be its gradient.
    stress = masked(prediction.stress, targets.has_stress)
    error = (stress - targets.stress).reshape(-1, 9)
    values = _penalty(error, settings.stress_kind, settings.huber_delta)
    return _mean(values, targets.has_stress, axis_name)


def _num_atoms(graph: AtomGraph, like: Float[Array, "..."]) -> Float[Array, "graphs"]:
    ones = jnp.ones(graph.node_mask.shape, like.dtype)
    return jnp.maximum(sum_over_graph(ones, graph), 1)  # type: ignore[arg-type]


def _penalty(error: Float[Array, "n k"], kind: ErrorKind, delta: float) -> Float[Array, "n"]:
    """Penalty of each row: the mean over its components, or its norm."""
    if kind == "mse":
        return jnp.mean(error**2, axis=-1)
    if kind == "mae":
        return jnp.mean(jnp.abs(error), axis=-1)
    if kind == "huber":
        size = jnp.abs(error)
        return jnp.mean(
            jnp.where(size < delta, 0.5 * error**2, delta * (size - 0.5 * delta)), axis=-1
        )
    # The norm has no gradient at zero; there it is set to zero.
    square = jnp.sum(error**2, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _mean(
    values: Float[Array, "n"], mask: Bool[Array, "n"], axis_name: str | None
) -> Float[Array, ""]:
    count = mask.sum(dtype=values.dtype)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    return masked(values, mask).sum() / jnp.maximum(count, 1)
