"""Times of the frames of a trajectory: from where to where, and how far apart."""

from collections.abc import Sequence

from mlffjax.md.trajectory_readers import Trajectory


def time_span(trajectory: Trajectory, frames: range) -> tuple[float, float] | None:
    """Times of the first and the last of some frames in fs; ``None`` where the file has none.

    Args:
      trajectory: the file.
      frames: one at least.
    """
    ends = [trajectory.read(k, k + 1).time_fs for k in (frames[0], frames[-1])]
    first, last = (None if times is None else float(times[0]) for times in ends)
    return None if first is None or last is None else (first, last)


def frame_interval(
    trajectories: Sequence[Trajectory], frames: Sequence[range], given: float | None
) -> float:
    """Time from one of the frames to the next in fs, the same in all trajectories.

    Args:
      trajectories: the files.
      frames: of each.
      given: time between two frames of a file in fs, whatever it says itself.

    Raises:
      ValueError: no times, or frames that are not evenly spaced.
    """
    step = frames[0].step
    if given is not None:
        return given * step
    found = [_interval(t, rows) for t, rows in zip(trajectories, frames, strict=True)]
    known = [interval for interval in found if interval is not None]
    if not known or min(known) <= 0:
        raise ValueError("got frames without times in order; give frame_fs")
    if max(known) - min(known) > 1e-3 * min(known):
        raise ValueError(
            f"got trajectories with frames {min(known):g} fs and {max(known):g} fs apart; expected "
            "the same in all; analyse them one by one"
        )
    return known[0] * step


def _interval(trajectory: Trajectory, frames: range) -> float | None:
    """Time between two frames of a file in fs; ``None`` where one frame does not tell."""
    start = frames[0]
    next_one = min(start + 1, len(trajectory) - 1)
    span = time_span(trajectory, range(start, next_one + 1))
    whole = time_span(trajectory, frames)
    if span is None or whole is None or next_one == start:
        return None
    interval, passed = span[1] - span[0], frames[-1] - start
    # Times have ten digits in some files; a frame twice or a gap is one interval too many.
    if abs(whole[1] - whole[0] - passed * interval) > 0.5 * abs(interval):
        raise ValueError(
            f"got {passed + 1} frames of {trajectory.path.name} over {whole[1] - whole[0]:g} fs, "
            f"the first two {interval:g} fs apart; expected them evenly spaced; cut the file where "
            "its times jump, or give frame_fs"
        )
    return interval
