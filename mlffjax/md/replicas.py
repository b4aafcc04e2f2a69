"""Running many simulations as one program: copies, temperatures, or different molecules."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ase

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import restart
from mlffjax.md.driver import Stop, drive
from mlffjax.md.engine import Run
from mlffjax.md.filters import for_dynamics
from mlffjax.md.records import FileWriter, MDResult
from mlffjax.md.replica_batch import Batch
from mlffjax.md.restart import RESTART_FILE, Identity, Saver
from mlffjax.md.structure import frame_of
from mlffjax.md.trajectory import THERMO_FILE, clear_folder, open_writers, read_thermo
from mlffjax.potential import Potential
from mlffjax.types import HostVectors

#: Settings in which replicas may differ.
OWN_SETTINGS = (
    "temperature",
    "initial_temperature",
    "explosion_temperature",
    "pressure_gpa",
    "seed",
    "steps",
)

Progress = Callable[[int], None]


def run_replicas(
    potential: Potential,
    structures: Frame | ase.Atoms | Sequence[Frame | ase.Atoms],
    settings: MDSettings | Sequence[MDSettings],
    *,
    folder: Path | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    initial_velocities: Sequence[HostVectors] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[MDResult]:
    """Molecular dynamics of many replicas, by one call of the potential a step.

    Each replica gives what :func:`mlffjax.md.engine.run_md` gives for its structure and its
    settings, up to rounding, in any ensemble, each with its own cell. One that explodes stops
    where it is; the others go on. All stop together only to enlarge their neighbour lists.

    With a folder one restart file for all is written between stretches. Continued from it, also
    after it was killed, the run leaves the same files and ends in the same states, bit for bit
    on the same device, as if it had not been interrupted.

    Args:
      potential: the force field.
      structures: where to start; one structure for all replicas, or one for each. They may have
        different atoms and cells, but the same periodic directions.
      settings: one for each replica, the same but for :data:`OWN_SETTINGS`; or one for all, of
        which replica ``k`` takes the seed plus ``k``. With one structure and one for all there
        are ``settings.replicas`` copies.
      folder: of the run; replica ``k`` writes as a single run does, into ``replica_00k`` in it.
        The restart file is in the folder itself.
      overwrite: whether files of an earlier run may be replaced; those of replicas that there are
        no longer go too.
      resume: go on from the restart file in ``folder``; what the files have beyond it is cut.
      initial_velocities: of each replica, ``[atoms, 3]`` in Angstrom/fs; drawn if not given.
      progress: called at the beginning and after each stretch with the steps done.
      stop: asked after each stretch; where it is true the run is saved and ends.

    Returns:
      A result for each replica. ``steps_per_second`` is that of one among the others: their sum
      is the rate of all together.

    Raises:
      ValueError: structures, settings and velocities of different number, settings that cannot
        go into one program, more steps for a replica that had ended before others when the run
        was saved, or as :func:`mlffjax.md.engine.run_md`.
      FileExistsError: a file of the run is there and ``overwrite`` is false.
      OSError: a file cannot be written; the restart file stays.
    """
    frames, each = paired(structures, settings)
    _check(frames, each)
    given = [None] * len(frames) if initial_velocities is None else list(initial_velocities)
    if len(given) != len(frames):
        raise ValueError(
            f"got velocities for {len(given)} of {len(frames)} replicas; expected one array each"
        )
    fast = for_dynamics(potential, each[0], sum(len(frame.numbers) for frame in frames))
    runs = [Run(fast, f, s, v) for f, s, v in zip(frames, each, given, strict=True)]
    batch = Batch(fast, runs)
    report = None if progress is None else lambda: progress(batch.done)
    if folder is None and resume:
        raise ValueError("got resume without a folder; expected that of the run; name it")
    saved: tuple[Path, Identity] | None = None
    if folder is not None:
        who = restart.replicas_identity(potential, frames, each, given, OWN_SETTINGS)
        saved = Path(folder) / RESTART_FILE, who
    marks = None
    if saved is not None and resume:
        restart.check_identity(*saved, max(s.steps for s in each))
        marks = batch.resume(saved[0]).marks
    else:
        batch.begin(given)
        if saved is not None:
            clear_folder(saved[0].parent, overwrite)
    with contextlib.ExitStack() as stack:
        writers, saver = _opened(stack, batch, saved, overwrite, marks)
        drive(batch, writers, saver, report, stop)
    return batch.results()


def _opened(
    stack: contextlib.ExitStack,
    batch: Batch,
    saved: tuple[Path, Identity] | None,
    overwrite: bool,
    marks: Mapping[str, int] | None,
) -> tuple[list[Sequence[FileWriter]], Saver | None]:
    """The writers of each replica, and of restart files if there is a place for them.

    Replicas that go on also get the rows they have written.
    """
    if saved is None:
        return [()] * len(batch.runs), None
    path, who = saved
    writers: list[Sequence[FileWriter]] = []
    named: dict[str, FileWriter] = {}
    for k, run in enumerate(batch.runs):
        folder = path.parent / f"replica_{k:03d}"
        start = f"{folder.name}/"
        own = None
        if marks is not None:
            own = {n.removeprefix(start): m for n, m in marks.items() if n.startswith(start)}
        opened = open_writers(folder, run.frame, run.settings, overwrite, own)
        for writer in opened:
            stack.callback(writer.close)
            named[start + writer.path.name] = writer
        if marks is not None:
            run.tables.append(read_thermo(folder / THERMO_FILE))
        writers.append(opened)
    return writers, Saver(path, named, who, batch.runs[0].settings, batch.done)


def paired(
    structures: Frame | ase.Atoms | Sequence[Frame | ase.Atoms],
    settings: MDSettings | Sequence[MDSettings],
) -> tuple[list[Frame], list[MDSettings]]:
    """A structure and settings for each replica; what is given once is for all.

    Raises:
      ValueError: none, different numbers of both, or settings of another number of replicas.
    """
    some = [structures] if isinstance(structures, Frame | ase.Atoms) else list(structures)
    single = isinstance(structures, Frame | ase.Atoms)
    if isinstance(settings, MDSettings):
        count = settings.replicas if single else len(some)
        each = [settings.model_copy(update={"seed": settings.seed + k}) for k in range(count)]
    else:
        each = list(settings)
    some = some * len(each) if single else some
    if not some or len(some) != len(each):
        raise ValueError(
            f"got {len(some)} structures and {len(each)} settings; expected one of each for "
            "every replica; give both in the same number, or one for all"
        )
    wrong = {s.replicas for s in each} - {1, len(each)}
    if wrong:
        raise ValueError(
            f"got replicas={wrong.pop()} in the settings of {len(each)} replicas; expected "
            f"{len(each)}, or 1; leave it out"
        )
    return [s if isinstance(s, Frame) else frame_of(s) for s in some], each


def _check(frames: Sequence[Frame], each: Sequence[MDSettings]) -> None:
    base = each[0]
    own = OWN_SETTINGS[:-1] if base.ramped else OWN_SETTINGS
    common = lambda s: s.model_dump(exclude={*own, "replicas"})  # noqa: E731
    for k, other in enumerate(each):
        differ = [name for name, value in common(other).items() if value != common(base)[name]]
        if differ:
            raise ValueError(
                f"got other {', '.join(differ)} for replica {k} than for the first; expected "
                f"replicas to differ in {', '.join(own)} alone; run these one by one"
            )
    for k, frame in enumerate(frames):
        if (frame.pbc != frames[0].pbc).any():
            raise ValueError(
                f"got periodic directions {frame.pbc.tolist()} for replica {k} and "
                f"{frames[0].pbc.tolist()} for the first; expected the same; run these one by one"
            )
