"""The ``training`` section of a configuration: loss, optimiser, schedule, lengths, seed."""

from typing import Literal

from pydantic import Field, model_validator

from mlffjax.config.base import Settings

ErrorKind = Literal["mse", "mae", "l2", "huber"]


class LossSettings(Settings):
    """Weighted sum of the errors of energy, forces and stress.

    The defaults are eq. 29 of SO3krates (Frank et al. 2024) with its trade-off of 0.99. Eq. 15
    of MACE (Batatia et al. 2022) is ``energy_weight=1, forces_weight=1000``.

    Attributes:
      energy_weight: weight of the energy term; errors in eV.
      forces_weight: weight of the force term; errors in eV/Angstrom.
      stress_weight: weight of the stress term; errors in eV/Angstrom^3. Zero leaves the stress
        out of the compiled program.
      energy_kind: ``mse`` mean square, ``mae`` mean absolute, ``l2`` the same for a scalar,
        ``huber`` quadratic below ``huber_delta`` and linear above.
      forces_kind: the same over components; ``l2`` is the mean length of the error vector.
      stress_kind: the same over the nine components; ``l2`` is the mean Frobenius norm.
      energy_by: ``structure`` takes the error of the whole energy, ``atom`` divides it by the
        number of atoms first.
      forces_by: ``atom`` averages over all atoms of the batch (MACE eq. 15), ``structure``
        over the atoms of each structure first (SO3krates eq. 29). Equal for data of one size.
      huber_delta: threshold of ``huber`` in the units of each error; 0.01 as in the training
        of MACE-MP-0 (Batatia et al. 2023).
    """

    energy_weight: float = Field(default=0.01, ge=0)
    forces_weight: float = Field(default=0.99, ge=0)
    stress_weight: float = Field(default=0.0, ge=0)
    energy_kind: ErrorKind = "mse"
    forces_kind: ErrorKind = "mse"
    stress_kind: ErrorKind = "mse"
    energy_by: Literal["structure", "atom"] = "structure"
    forces_by: Literal["atom", "structure"] = "structure"
    huber_delta: float = Field(default=0.01, gt=0)

    @model_validator(mode="after")
    def _some_weight(self) -> "LossSettings":
        if not (self.energy_weight or self.forces_weight or self.stress_weight):
            raise ValueError("at least one of the loss weights above zero")
        return self


class DecayGroup(Settings):
    """Weight decay of the parameters whose path matches a pattern.

    Attributes:
      pattern: shell pattern of the path, such as ``*/product_*/*``; see
        :func:`mlffjax.training.optimizer.parameter_paths`.
      value: weight decay of the group.
    """

    pattern: str
    value: float = Field(ge=0)


class OptimizerSettings(Settings):
    """Optimiser of the parameters.

    Attributes:
      name: ``adam`` (Kingma and Ba 2014), ``amsgrad`` (Reddi et al. 2018) or ``adamw``
        (Loshchilov and Hutter 2019).
      learning_rate: 1e-3 as SO3krates, SI; MACE A.5 has 0.01.
      beta1, beta2, epsilon: moments and guard of Adam, from its paper.
      weight_decay: of parameters in no group. ``adamw`` decouples it from the gradient; the
        others add ``weight_decay * parameter`` to the gradient. MACE A.5 has 5e-7 on the
        weights of its products.
      weight_decay_groups: the first group whose pattern matches decides.
      clip_norm: largest global norm of the gradient; 10 as the default of the published
        MACE training script. ``null`` does not clip, as the SO3krates paper.
    """

    name: Literal["adam", "amsgrad", "adamw"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    weight_decay_groups: tuple[DecayGroup, ...] = ()
    clip_norm: float | None = Field(default=10.0, gt=0)


class ScheduleSettings(Settings):
    """Learning rate over the steps, as a factor of the optimiser's.

    Attributes:
      name: ``constant``; ``exponential``; ``cosine`` to the end of training; ``plateau``, which
        lowers the rate when validation stops to improve.
      warmup_steps: the rate rises linearly over these first steps, under every name.
      factor: of ``exponential`` and ``plateau``; 0.7 as SO3krates, SI (MACE A.5: 0.8).
      interval: steps to one ``factor`` of ``exponential``; 100,000 as SO3krates, SI.
      staircase: whether ``exponential`` falls in steps and not continuously.
      patience: validations without improvement before ``plateau`` falls; 50 as MACE A.5.
      minimum: lowest factor of ``cosine`` and ``plateau``.
    """

    name: Literal["constant", "exponential", "cosine", "plateau"] = "exponential"
    warmup_steps: int = Field(default=0, ge=0)
    factor: float = Field(default=0.7, gt=0, lt=1)
    interval: int = Field(default=100_000, gt=0)
    staircase: bool = False
    patience: int = Field(default=50, ge=0)
    minimum: float = Field(default=0.0, ge=0, lt=1)


class MDValidationSettings(Settings):
    """Short dynamics with the current parameters, as a part of validation.

    All frames are replicas of one program. Reported are ``md_stability``, the mean part of the
    steps that was stable (eq. 28 of SO3krates), and ``md_drift``, the mean size of the drift of
    the conserved energy in eV per atom and ps, over the replicas that stayed stable.

    Attributes:
      interval: validations from one to the next; there is always one at the end.
      frames: of the validation data, to start from; taken evenly.
      steps: of each simulation.
      timestep_fs: in fs.
      temperature: of the initial velocities and of a thermostat in kelvin.
      ensemble: ``nve``, or ``nose-hoover`` or ``csvr`` at constant temperature; all three have
        a conserved energy.
    """

    interval: int = Field(default=1, gt=0)
    frames: int = Field(default=4, gt=0)
    steps: int = Field(default=1000, ge=50)
    timestep_fs: float = Field(default=0.5, gt=0)
    temperature: float = Field(default=300.0, gt=0)
    ensemble: Literal["nve", "nose-hoover", "csvr"] = "nve"


class TrainingSettings(Settings):
    """How a potential is trained.

    Attributes:
      loss, optimizer, schedule: sections of their own.
      epochs, steps: length of the training; exactly one is given.
      batch_size: structures a step; 10 as SO3krates, SI, for more than 1000 structures.
      validation_batch_size: structures a validation batch; ``batch_size`` by default.
      ema: decay of the exponential moving average of the parameters, with which potentials are
        validated and saved; 0.99 as MACE A.5. Zero: none.
      seed: of the order of the data. The order of an epoch follows from (seed, epoch).
      dtype: of parameters and data; ``float64`` needs jax's x64 mode.
      validation_interval: steps from one validation to the next; an epoch by default.
      checkpoint_interval: steps from one checkpoint to the next, besides those at each
        validation.
      log_interval: steps from one record of the training errors to the next.
      selection: the validation error whose lowest value is ``best`` and which drives
        ``plateau``: the loss, a mean absolute error, or ``md``: the most stable dynamics, and
        among equally stable ones the smallest drift, of the validations that have dynamics.
      md_validation: short dynamics at validations; none if not given.
      data_on_device: whether the whole data set is kept on the device; by default where it
        takes less than a quarter of its memory (of 16 GiB where the memory is unknown).
      edges_per_block: see :class:`mlffjax.potential.Potential`; trades memory for time.
      progress: show a progress bar on a terminal; the errors of validations are printed without
        one too.
      tensorboard: write TensorBoard files.
    """

    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    epochs: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=10, gt=0)
    validation_batch_size: int | None = Field(default=None, gt=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    dtype: Literal["float32", "float64"] = "float32"
    validation_interval: int | None = Field(default=None, gt=0)
    checkpoint_interval: int | None = Field(default=None, gt=0)
    log_interval: int = Field(default=50, gt=0)
    selection: Literal["loss", "energy", "forces", "stress", "md"] = "loss"
    md_validation: MDValidationSettings | None = None
    data_on_device: bool | None = None
    edges_per_block: int | None = Field(default=None, gt=0)
    progress: bool = True
    tensorboard: bool = True

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of 'epochs' and 'steps'; set the other to null")
        return self

    @model_validator(mode="after")
    def _selection_is_measured(self) -> "TrainingSettings":
        if self.selection == "md" and self.md_validation is None:
            raise ValueError("a section 'md_validation' for the selection 'md'")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of steps of the whole training."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch
