"""The loop on the host: while a stretch of steps runs, what came before it is written."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from mlffjax.md.records import Block, Writer
from mlffjax.md.restart import Restart, Saver

Stop = Callable[[], bool]


class Driven(Protocol):
    """A simulation, or one of replicas, that goes on stretch by stretch.

    Attributes:
      firsts: of each replica the row and the frame of the start; none for a run that goes on.
    """

    firsts: Sequence[Block]

    @property
    def unfinished(self) -> bool:
        """Whether there are steps to do."""
        ...

    def compile(self) -> None:
        """Compile a stretch of steps."""
        ...

    def stretch(self) -> Sequence[Block | None]:
        """Do a stretch of steps: what each replica has left, none where it had ended before."""
        ...

    def snapshot(self) -> Restart | None:
        """What is needed to go on from here; none for a single run that has exploded."""
        ...


def drive(
    simulation: Driven,
    writers: Sequence[Sequence[Writer]],
    saver: Saver | None,
    report: Callable[[], None] | None,
    stop: Stop | None,
) -> None:
    """All stretches; a thread writes rows, frames and restart files while the next one runs.

    Args:
      simulation: at its start.
      writers: of each replica.
      saver: of restart files, if there are to be any.
      report: called at the beginning and after each stretch.
      stop: asked after each stretch; where it is true the run is saved and ends.

    Raises:
      OSError: a file cannot be written.
    """
    stopped = False
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: Future[None] | None = None
        if simulation.firsts:
            job = _save_job(simulation, saver, due=True)
            pending = pool.submit(_write, writers, simulation.firsts, job)
        if report is not None:
            report()
        simulation.compile()
        while simulation.unfinished and not stopped:
            blocks = simulation.stretch()
            stopped = stop is not None and stop()
            job = _save_job(simulation, saver, due=stopped or not simulation.unfinished)
            if pending is not None:
                pending.result()
            pending = pool.submit(_write, writers, blocks, job)
            if report is not None:
                report()
        if pending is not None:
            pending.result()


def _save_job(simulation: Driven, saver: Saver | None, *, due: bool) -> Callable[[], None] | None:
    now = None if saver is None else simulation.snapshot()
    return None if saver is None or now is None else saver.job(now, due)


def _write(
    writers: Sequence[Sequence[Writer]],
    blocks: Sequence[Block | None],
    save: Callable[[], None] | None,
) -> None:
    for own, block in zip(writers, blocks, strict=True):
        if block is not None:
            for writer in own:
                writer.write(block)
    if save is not None:
        save()
