"""All that one training step changes, as a frozen pytree, and what the host keeps beside it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Int

from mlffjax.config.training import ScheduleSettings
from mlffjax.types import Params


@struct.dataclass
class TrainingState:
    """The device's share of a training run.

    Attributes:
      params: parameters of the architecture.
      average: their exponential moving average; ``None`` without one.
      optimizer: moments of the optimiser.
      step: number of updates so far.
      finite: false once a loss or gradient was not finite; the state is that before it.
    """

    params: Params
    average: Params | None
    optimizer: optax.OptState
    step: Int[Array, ""]
    finite: Bool[Array, ""]

    @classmethod
    def create(
        cls, params: Params, optimizer: optax.GradientTransformation, *, average: bool
    ) -> "TrainingState":
        """The state before the first step. The buffers are copies, as steps donate theirs."""
        copy = lambda tree: jax.tree.map(lambda x: jnp.array(x, copy=True), tree)  # noqa: E731
        return cls(
            params=copy(params),
            average=copy(params) if average else None,
            optimizer=copy(optimizer.init(params)),
            step=jnp.zeros((), jnp.int32),
            finite=jnp.array(True),
        )

    @property
    def evaluation_params(self) -> Params:
        """The parameters to validate and to save."""
        return self.params if self.average is None else self.average


@dataclass(frozen=True)
class Progress:
    """The host's share of a training run: selection and plateau.

    Attributes:
      best_value: lowest selection error so far, ``None`` before the first validation.
      best_tie: what decided between equal selection errors; zero where nothing does.
      best_step: step of that validation.
      waited: validations since the selection error or the last reduction improved.
      plateau_factor: current factor on the learning rate.
    """

    best_value: float | None = None
    best_step: int = 0
    waited: int = 0
    plateau_factor: float = 1.0
    best_tie: float = 0.0

    def validated(
        self, value: float, step: int, schedule: ScheduleSettings, tie: float = 0.0
    ) -> "Progress":
        """The progress after a validation with the selection error ``value``; then ``tie``."""
        if self.best_value is None or (value, tie) < (self.best_value, self.best_tie):
            return replace(self, best_value=value, best_tie=tie, best_step=step, waited=0)
        if schedule.name != "plateau" or self.waited < schedule.patience:
            return replace(self, waited=self.waited + 1)
        factor = max(self.plateau_factor * schedule.factor, schedule.minimum)
        return replace(self, waited=0, plateau_factor=factor)
