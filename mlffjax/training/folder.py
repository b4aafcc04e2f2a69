"""The folder of a training run: settings, metrics, and the checkpoints ``last`` and ``best``.

A checkpoint is written under a new name with its step and the link ``last`` or ``best`` is then
set to it, so that at every moment each link leads to a whole one.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlffjax import checkpoint
from mlffjax.config.files import write_text
from mlffjax.config.training import TrainingSettings
from mlffjax.potential import Potential

_SETTINGS = "training.json"
_OWN = (_SETTINGS, "metrics.jsonl", "tensorboard", "checkpoints", "last", "best")
#: Settings that may differ on resuming; they decide what is told and when training ends.
_FREE = frozenset({"epochs", "steps", "progress", "tensorboard", "checkpoint_interval"})


class RunFolder:
    """The files of one training run.

    Args:
      path: the folder, made if it does not exist.
      settings: of the run.
      resume: continue the run in the folder.
      overwrite: delete the run in the folder first.

    Raises:
      ValueError: there is a run and neither ``resume`` nor ``overwrite``, there is none to
        resume, or it had other settings.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: TrainingSettings, *, resume: bool,
        overwrite: bool,
    ):  # fmt: skip
        self.path = Path(path).absolute()
        found = next((name for name in _OWN if os.path.lexists(self.path / name)), None)
        if resume and overwrite:
            raise ValueError("got resume and overwrite; expected one of them")
        if resume:
            self._check_settings(settings)
        elif found and not overwrite:
            raise ValueError(
                f"got the folder {self.path}, which holds a training run ({found}); expected "
                "a new folder; resume the run, overwrite it, or choose another folder"
            )
        elif overwrite:
            remove(self.path)
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        if self.last is not None:
            # A kill may have come between the newest checkpoint and its link.
            self._point("last", self.last)
        write_text(self.path / _SETTINGS, settings.model_dump_json(indent=1) + "\n")

    def _check_settings(self, settings: TrainingSettings) -> None:
        try:
            stored = json.loads((self.path / _SETTINGS).read_text())
        except (OSError, ValueError):
            raise ValueError(
                f"got {self.path}, which holds no training run to resume; expected the folder of "
                "one; start it without resume"
            ) from None
        wanted = settings.model_dump(mode="json")
        free = set(_FREE) - ({"epochs", "steps"} if settings.schedule.name == "cosine" else set())
        for key in sorted(set(wanted) | set(stored)):
            if key not in free and wanted.get(key) != stored.get(key):
                raise ValueError(
                    f"got {key} = {wanted.get(key)} for the run in {self.path}, which has "
                    f"{stored.get(key)}; expected the settings of the run; restore them, or "
                    "start a new run"
                )

    @property
    def last(self) -> Path | None:
        """The newest checkpoint with a training state."""
        return newest(self.path)

    def has_best(self, step: int) -> bool:
        """Whether the link ``best`` leads to the best potential of ``step``."""
        link = self.path / "best"
        return link.exists() and link.resolve().name == f"best-{step:09d}"

    def save(
        self,
        kind: str,
        step: int,
        potential: Potential,
        metrics: Mapping[str, float] | None = None,
        training: tuple[Any, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write a checkpoint, point the link ``kind`` to it, and delete its predecessors.

        Raises:
          OSError: it cannot be written; the previous one stays.
        """
        target = self.path / "checkpoints" / f"{kind}-{step:09d}"
        checkpoint.save(potential, target, overwrite=True, metrics=metrics, training=training)
        self._point(kind, target)

    def _point(self, kind: str, target: Path) -> None:
        """Point the link ``kind`` to a checkpoint and delete its predecessors."""
        link = self.path / f".{kind}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(target.relative_to(self.path))
        os.replace(link, self.path / kind)
        for old in (self.path / "checkpoints").glob(f"*{kind}-*"):
            if old.name != target.name:
                _remove(old)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint with a training state in the folder of a run; ``None`` before one."""
    found = sorted((folder / "checkpoints").glob("last-*"))
    return found[-1] if found else None


def remove(folder: Path) -> None:
    """Remove the files of a training run from its folder; others stay."""
    for name in _OWN:
        _remove(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
