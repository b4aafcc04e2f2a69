"""The product basis of MACE: symmetric polynomials of the features of one atom."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mlffjax.nn.blocks import block_size, map_blocks
from mlffjax.nn.clebsch_gordan import symmetric_couplings
from mlffjax.nn.tensor_product import Features
from mlffjax.types import Species

#: Atoms times channels of one block: the fastest of 512 to 6144 for correlation order 3.
NUMBERS_PER_BLOCK = 2048
NUMBERS_PER_BLOCK_ON_ACCELERATOR = 2**17


class SymmetricContraction(nn.Module):
    """MACE eqs. 10 and 11: weighted sum of all couplings of 1 to ``correlation`` factors.

    ===============================  ====================================================
    paper                            here
    ===============================  ====================================================
    ``A_{i, k l m}``                 ``features`` ``[atoms, (l_max + 1)^2, channels]``
    ``C^{LM}_{eta, lm}``             :func:`~mlffjax.nn.clebsch_gordan.symmetric_couplings`
    ``B_{i, eta nu k LM}``           one row of a product of couplings and monomials
    ``W_{z_i k L, eta nu}``          parameters ``degree_L_order_nu`` ``[elements, eta, k]``
    ``m_{i, k LM}``                  the result
    ===============================  ====================================================

    Deviations from the paper: a coupling that is symmetric in its factors appears once, not once
    for each order of ``l_1 l_2 l_3``, so there are fewer weights for the same functions. For
    ``l_max`` 3 and 1, 2, 3 factors mace-torch has 1, 4, 23 weights of ``L`` = 0, 1, 6, 51 of
    ``L`` = 1 and 1, 7, 65 of ``L`` = 2, an element and channel; 1, 4, 8, then 1, 3, 12 and
    1, 5, 14 of their polynomials are linearly independent, and are the ones here. The
    polynomials are sums over monomials ``x_i x_j x_k`` with ``i <= j <= k`` that the couplings
    really contain (a tenth of all for ``l_max`` 3), instead of the dense loop of algorithm 1.

    Attributes:
      max_degree: highest degree ``l_max`` of the features.
      degrees: degrees ``L`` of the result.
      correlation: highest number of factors ``nu``, from 1.
      num_elements: number of elements; each has its own weights.
    """

    max_degree: int
    degrees: tuple[int, ...]
    correlation: int
    num_elements: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "atoms orders channels"], species: Species
    ) -> Features:
        """``[atoms, 2L + 1, channels]`` for each of ``degrees``.

        Args:
          features: degrees 0 to ``max_degree`` of natural parity.
          species: element index of each atom.
        """
        channels = features.shape[-1]
        orders = range(1, self.correlation + 1)
        weights = []
        for degree in self.degrees:
            counts = [
                symmetric_couplings(self.max_degree, degree, order).coefficients.shape[1]
                for order in orders
            ]
            parts = [
                self.param(
                    f"degree_{degree}_order_{order}",
                    nn.initializers.normal(1 / max(count, 1)),
                    (self.num_elements, count, channels),
                    features.dtype,
                )
                for order, count in zip(orders, counts, strict=True)
            ]
            weights.append(jnp.concatenate(parts, axis=1))
        plan = _plan(self.max_degree, self.degrees, self.correlation)

        def contract(rows: tuple[Array, Array]) -> Features:
            x, element = rows
            return _contract(plan, x, [w[element] for w in weights])

        numbers = block_size(NUMBERS_PER_BLOCK, NUMBERS_PER_BLOCK_ON_ACCELERATOR)
        return map_blocks(contract, (features, species), max(1, numbers // channels))


class _Component(NamedTuple):
    """One component ``(L, M)`` of the result.

    Attributes:
      degree: index of ``L`` in the degrees of the result.
      rows: for each order, indices into the monomials of that order.
      coefficients: for each order ``[couplings, monomials]``.
    """

    degree: int
    rows: tuple[Int[np.ndarray, "monomials"], ...]
    coefficients: tuple[Float[np.ndarray, "couplings monomials"], ...]


class _Plan(NamedTuple):
    """Which products to form.

    Attributes:
      products: for each order from 2 but the highest, pairs (monomial of one order less, last
        factor) ``[monomials, 2]``. The highest order is formed for one component at a time.
      highest: such pairs of the highest order.
      components: how they are summed.
    """

    products: tuple[Int[np.ndarray, "monomials 2"], ...]
    highest: Int[np.ndarray, "monomials 2"]
    components: tuple[_Component, ...]


@cache
def _plan(max_degree: int, degrees: tuple[int, ...], correlation: int) -> _Plan:
    orders = range(1, correlation + 1)
    couplings = {(d, o): symmetric_couplings(max_degree, d, o) for d in degrees for o in orders}
    # Monomials needed of each order: those of the couplings, and beginnings of longer ones.
    needed: dict[int, list[tuple[int, ...]]] = {}
    for order in reversed(orders):
        used = {tuple(row) for d in degrees for row in couplings[d, order].monomials.tolist()}
        used |= {row[:-1] for row in needed.get(order + 1, [])}
        needed[order] = sorted(used)
    needed[1] = [(i,) for i in range((max_degree + 1) ** 2)]
    index = {row: k for order in orders for k, row in enumerate(needed[order])}
    pairs = [
        np.array([(index[row[:-1]], row[-1]) for row in needed[order]]).reshape(-1, 2)
        for order in orders[1:]
    ]
    components = []
    for which, degree in enumerate(degrees):
        for m in range(2 * degree + 1):
            rows, coefficients = [], []
            for order in orders:
                c = couplings[degree, order]
                used = np.flatnonzero(np.any(c.coefficients[:, :, m] != 0, axis=1))
                rows.append(np.array([index[tuple(r)] for r in c.monomials[used]], dtype=np.int64))
                coefficients.append(c.coefficients[used, :, m].T)
            components.append(_Component(which, tuple(rows), tuple(coefficients)))
    highest = pairs.pop() if pairs else np.zeros((0, 2), np.int64)
    return _Plan(tuple(pairs), highest, tuple(components))


def _contract(
    plan: _Plan,
    features: Float[Array, "atoms orders channels"],
    weights: Sequence[Float[Array, "atoms _ channels"]],
) -> Features:
    atoms, size, channels = features.shape
    x = features.transpose(1, 0, 2).reshape(size, -1)
    monomials = [x]
    for pairs in plan.products:
        monomials.append(monomials[-1][pairs[:, 0]] * x[pairs[:, 1]])
    weights = [w.transpose(1, 0, 2) for w in weights]
    result: list[list[Array]] = [[] for _ in weights]
    for component in plan.components:
        chosen = [m[rows] for m, rows in zip(monomials, component.rows, strict=False)]
        if len(component.rows) > len(chosen):
            pairs = plan.highest[component.rows[-1]]
            chosen.append(monomials[-1][pairs[:, 0]] * x[pairs[:, 1]])
        basis = [
            jnp.asarray(c, x.dtype) @ m for c, m in zip(component.coefficients, chosen, strict=True)
        ]
        basis = jnp.concatenate(basis).reshape(-1, atoms, channels)
        result[component.degree].append(jnp.sum(basis * weights[component.degree], axis=0))
    return tuple(jnp.stack(components, axis=1) for components in result)
