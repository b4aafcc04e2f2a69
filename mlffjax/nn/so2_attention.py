"""Attention with SO(2) convolutions (EquiformerV2) as functions of the edges of a block.

A message has many numbers for a short time, some 100,000 an edge at the published widths. They are
computed block by block; see :mod:`mlffjax.nn.edge_loop`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn.blocks import block_size
from mlffjax.nn.edge_loop import EdgeFunction, EdgeTerms, edge_loop
from mlffjax.nn.element_radial import RadialFunction, layer_norm
from mlffjax.nn.spherical_activations import gate_orders, silu_on_sphere, smooth_leaky_relu
from mlffjax.nn.wigner import EdgeRotation, OrderFeatures, rotate, rotate_back
from mlffjax.types import EdgeFeatures

#: Edges of one block: within 5 % of the fastest of 128 to 512 on 192 atoms of water on x86-64
#: cores, and more than 27 atoms have, which are then computed only once.
EDGES_PER_BLOCK = 512
EDGES_PER_BLOCK_ON_ACCELERATOR = 4096


@dataclass(frozen=True)
class AttentionSettings:
    """Widths and choices of the attention blocks; see :class:`mlffjax.models.EquiformerV2`."""

    num_elements: int
    edge_channels: int
    hidden: int
    heads: int
    alpha: int
    value: int
    activation: str
    renormalize: bool
    grid: tuple[str, int, int]


def loop_over_edges(function: EdgeFunction, graph: EdgeGraph, inputs: EdgeTerms) -> EdgeTerms:
    """:func:`mlffjax.nn.edge_loop.edge_loop` with the blocks of this module."""
    size = block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR)
    return edge_loop(function, graph, inputs, size)


@dataclass(frozen=True)
class Surroundings:
    """Edge-degree embedding of a block of edges: features with order 0 alone, turned back."""

    max_order: int

    def __call__(self, rows: EdgeTerms) -> EdgeTerms:
        basis, zonal, envelope = rows.edges
        radial = rows.shared(basis, rows.senders, rows.receivers) * envelope[:, None]
        degrees = len(zonal)
        radial = radial.reshape(len(basis), degrees, radial.shape[1] // degrees)
        return EdgeTerms(receivers=rotate_back(zonal, (radial,), self.max_order))


@dataclass(frozen=True)
class Logits:
    """``a . LeakyReLU(LN(f_ij^(0)))`` of a block of edges (sec. 4.2), ``[rows, heads]``."""

    settings: AttentionSettings

    def __call__(self, rows: EdgeTerms) -> EdgeTerms:
        basis, zonal = rows.edges
        radial, to_logits, norm, vectors = rows.shared
        zero = _modulated(rows, radial, basis, zonal)[0]
        shape = (len(basis), self.settings.heads, self.settings.alpha)
        hidden = to_logits.invariants(zero).reshape(shape)
        if norm is not None:
            hidden = layer_norm(hidden, *norm)
        return EdgeTerms(edges=jnp.einsum("eha,ah->eh", smooth_leaky_relu(hidden), vectors))


@dataclass(frozen=True)
class Messages:
    """Values ``v_ij`` of a block of edges times their weights, turned back (fig. 1b).

    Attributes:
      settings: of the attention.
      num_scalars: invariants that the activation needs.
      top: highest degree of the result.
    """

    settings: AttentionSettings
    num_scalars: int
    top: int

    def __call__(self, rows: EdgeTerms) -> EdgeTerms:
        basis, rotation, weights = rows.edges
        radial, mix_0, mix_1 = rows.shared
        orders = _modulated(rows, radial, basis, rotation)
        orders, scalars = mix_0(orders, self.num_scalars)
        orders, _ = mix_1(_edge_activation(orders, scalars, self.settings))
        orders = tuple(_scale_heads(x, weights) for x in orders)
        return EdgeTerms(receivers=rotate_back(rotation[: self.top + 1], orders, len(orders) - 1))


def order_sizes(max_degree: int, max_order: int, channels: int) -> list[int]:
    """Numbers of each order that the distance modulates: the two signs have one in common."""
    return [(max_degree + 1 - m) * channels for m in range(max_order + 1)]


def _modulated(
    rows: EdgeTerms, radial: RadialFunction, basis: EdgeFeatures, rotation: EdgeRotation
) -> OrderFeatures:
    """Features of both ends in the frame of the edge, times a function of the distance."""
    (sender, from_sender), (receiver, from_receiver) = rows.senders, rows.receivers
    orders = rotate(rotation, jnp.concatenate([sender, receiver], axis=2))
    sizes = order_sizes(orders[0].shape[1] - 1, len(orders) - 1, orders[0].shape[2])
    parts = jnp.split(radial(basis, from_sender, from_receiver), np.cumsum(sizes)[:-1], axis=1)
    return tuple(
        x * part.reshape(len(basis), *(1,) * (x.ndim - 3), *x.shape[-2:])
        for x, part in zip(orders, parts, strict=True)
    )


def _edge_activation(
    orders: OrderFeatures, scalars: EdgeFeatures, settings: AttentionSettings
) -> OrderFeatures:
    """Non-linearity of the messages, in the frame of the edge (sec. 4.3, fig. 2)."""
    if settings.activation == "gate":
        degrees = scalars.shape[1] // settings.hidden
        return gate_orders(orders, scalars.reshape(len(scalars), degrees, settings.hidden))
    separable = settings.activation == "separable_s2"
    return silu_on_sphere(orders, settings.grid, jax.nn.silu(scalars) if separable else None)


def _scale_heads(
    features: Float[Array, "edges ... C"], weights: Float[Array, "edges heads"]
) -> Float[Array, "edges ... C"]:
    heads = weights.shape[1]
    split = features.reshape(*features.shape[:-1], heads, features.shape[-1] // heads)
    shape = (weights.shape[0], *(1,) * (features.ndim - 2), heads, 1)
    return (split * weights.reshape(shape)).reshape(features.shape)
