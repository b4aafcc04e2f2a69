"""Training by energy, force and stress matching."""

from mlffjax.training.callbacks import Callback as Callback
from mlffjax.training.callbacks import Record as Record
from mlffjax.training.callbacks import RunInfo as RunInfo
from mlffjax.training.evaluate import Evaluation as Evaluation
from mlffjax.training.evaluate import evaluate as evaluate
from mlffjax.training.loop import NonFiniteError as NonFiniteError
from mlffjax.training.loop import Terminated as Terminated
from mlffjax.training.loop import TrainingResult as TrainingResult
from mlffjax.training.loop import train as train
from mlffjax.training.metrics import Metrics as Metrics
