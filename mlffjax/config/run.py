"""The YAML file of ``mlffjax train``: sections data, model, training and output."""

import os
from collections.abc import Sequence
from typing import Any, Self

from pydantic import ConfigDict, Field

from mlffjax.config.base import Settings
from mlffjax.config.data import DataSettings
from mlffjax.config.files import override, read_yaml
from mlffjax.config.training import TrainingSettings


class ModelSettings(Settings):
    """The ``model`` section: an architecture and its fields.

    All other keys are fields of the architecture's class, such as ``num_features``; they are
    checked by :func:`mlffjax.workflow.architecture`, which knows the classes.

    Attributes:
      architecture: name in :data:`mlffjax.models.ARCHITECTURES`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str

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
