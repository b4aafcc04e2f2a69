"""The YAML file of ``mlffjax train``: sections data, model, training and output."""

import os
from collections.abc import Sequence
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from mlffjax.config.base import Settings
from mlffjax.config.data import DataSettings
from mlffjax.config.files import override, read_yaml
from mlffjax.config.training import TrainingSettings


class ModelSettings(Settings):
    """The ``model`` section: an architecture and its fields, or a potential to start from.

    All other keys are fields of the architecture's class, such as ``num_features``; they are
    checked by :func:`mlffjax.workflow.architecture`, which knows the classes.

    Attributes:
      architecture: name in :data:`mlffjax.models.ARCHITECTURES`.
      start: a saved potential or a training run, whose architecture and parameters training
        goes on from (fine-tuning), in place of an architecture. With ``data.baseline.source:
        auto`` its element energies are shifted to fit the data best.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str | None = None
    start: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.architecture is None and self.start is None:
            raise ValueError("architecture, or start with a saved potential; add one")
        if self.start is not None and (self.architecture is not None or self.model_extra):
            given = ", ".join(["architecture"] * bool(self.architecture) + sorted(self.fields))
            raise ValueError(f"start alone, which brings its architecture; remove {given}")
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """The architecture's own fields, as given."""
        return dict(self.model_extra or {})


class OutputSettings(Settings):
    """The ``output`` section.

    Attributes:
      folder: where the run writes everything; one run a folder.
      figures: draw the learning curve and parity plots at the end.
    """

    folder: str = Field(min_length=1)
    figures: bool = True


class RunSettings(Settings):
    """A training run.

    Attributes:
      data: the frames.
      model: the architecture.
      training: loss, optimiser, lengths.
      output: where the results go.
    """

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings
    output: OutputSettings

    @classmethod
    def load(cls, path: str | os.PathLike[str], assignments: Sequence[str] = ()) -> Self:
        """Read a YAML file and apply ``section.key=value`` assignments.

        Raises:
          ConfigError: the file or an assignment is wrong; a line for every wrong entry.
          OSError: the file cannot be read.
        """
        return cls.parse(override(read_yaml(path), assignments), source=os.fspath(path))
