"""Indices of the true entries of a mask, within fixed room.

A running sum over every entry is the slow part of this on a CPU (30 ns an entry in XLA). So the
entries are packed as bits into words: the running sum goes over the words, and the rank of a
bit within its word is the number of bits set below it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

#: Bits of a word.
WORD = 32


def pack(mask: Bool[Array, "*words bits"]) -> UInt32[Array, "*words"]:
    """Entries along the last axis, at most :data:`WORD`, as the bits of a word."""
    places = jnp.arange(mask.shape[-1], dtype=jnp.uint32)
    return jnp.sum(mask.astype(jnp.uint32) << places, axis=-1, dtype=jnp.uint32)


def set_bits(
    words: UInt32[Array, "words"], bits: int, size: int
) -> tuple[Int[Array, "size"], Bool[Array, "size"], Int[Array, ""]]:
    """Where bits are set, in order: ``word * bits + bit``.

    Args:
      words: as :func:`pack` makes them.
      bits: used of each word.
      size: room for indices.

    Returns:
      Indices ``[size]``, which of them are real, and how many bits are set, also where that is
      more than ``size``.
    """
    counts = jax.lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    place = jnp.arange(bits, dtype=jnp.uint32)
    word = words[:, None]
    below = jax.lax.population_count(word & ((jnp.uint32(1) << place) - jnp.uint32(1)))
    rank = (ends - counts)[:, None] + below.astype(jnp.int32)
    slot = jnp.where((word >> place) & jnp.uint32(1) != 0, rank, size)
    entries = jnp.arange(words.shape[0] * bits, dtype=jnp.int32)
    index = jnp.zeros(size, jnp.int32).at[slot.reshape(-1)].set(entries, mode="drop")
    total = jnp.sum(counts, dtype=jnp.int32)
    return index, jnp.arange(size, dtype=jnp.int32) < total, total


def first_true(
    mask: Bool[Array, "n"], size: int
) -> tuple[Int[Array, "size"], Bool[Array, "size"], Int[Array, ""]]:
    """Indices of the true entries in order, which of them are real, and how many there are."""
    padded = jnp.pad(mask, (0, -mask.shape[0] % WORD))
    return set_bits(pack(padded.reshape(-1, WORD)), WORD, size)
