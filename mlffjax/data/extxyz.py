"""Extended XYZ: reading with a line number in every complaint, writing without loss."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import ase
import numpy as np
from ase.data import chemical_symbols
from ase.io.extxyz import read_xyz

from mlffjax.data.frames import Frame

_NOT_A_MATRIX = re.compile("info item (stress|virial), expecting special 3x3 matrix")


def iterate_extxyz(path: Path) -> Iterator[ase.Atoms]:
    """The frames of an extended XYZ file, one after the other.

    Blank lines between frames are skipped. ASE parses each frame.

    Raises:
      ValueError: a frame is cut off or cannot be parsed; the message has its line number.
    """
    with open(path, encoding="utf-8", errors="replace") as lines:
        number = 0
        index = 0
        for line in lines:
            number += 1
            if not line.strip():
                continue
            where = f"{path.name}#{index} (line {number})"
            try:
                count = int(line)
            except ValueError:
                raise ValueError(
                    f"{where}: got {line.strip()[:60]!r}; expected the number of atoms of the next "
                    "frame; mend the frame before it, whose count does not match its lines"
                ) from None
            block = [line]
            for _, content in zip(range(count + 1), lines, strict=False):
                block.append(content)
            number += len(block) - 1
            if len(block) != count + 2:
                raise ValueError(
                    f"{where}: got {max(len(block) - 2, 0)} atoms before the end of the file; "
                    f"expected {count}; the file is cut off: copy it again, or remove the last "
                    "frame"
                )
            if _last_line_is_cut(block):
                raise ValueError(
                    f"{where}: got a last line shorter than the others, {block[-1]!r}; expected "
                    "complete numbers; the file is cut off: copy it again, or remove the last frame"
                )
            try:
                yield next(iter(read_xyz(io.StringIO("".join(block)), 0)))
            except Exception as error:  # ASE raises whatever the parsing of a line raised
                if matrix := _NOT_A_MATRIX.search(_one_line(error)):
                    raise ValueError(
                        f"{where}: got a {matrix[1]} that is not nine numbers; expected the rows "
                        "of the 3x3 matrix, as ASE has it under this name; write nine numbers, or "
                        f"rename six in the order xx, yy, zz, yz, xz, xy to REF_{matrix[1]}"
                    ) from None
                raise ValueError(
                    f"{where}: got a frame that cannot be parsed ({_one_line(error)}); expected "
                    f"extended XYZ with {count} complete lines of atoms; mend or remove the frame"
                ) from None
            index += 1


def write_extxyz(
    frames: Iterable[Frame], path: str | os.PathLike, *, overwrite: bool = False
) -> int:
    """Write frames as extended XYZ in eV and Angstrom, every digit kept.

    Labels are named ``energy``, ``forces``, ``stress`` (tension positive) and
    ``config_type``, which ASE and :func:`mlffjax.data.read_frames` read back.

    Args:
      frames: in the order of the file.
      path: of the file, which is there when it is whole.
      overwrite: whether it may take the place of another.

    Returns:
      The number of frames written.

    Raises:
      FileExistsError: the file exists and ``overwrite`` is false.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"got the existing file {target}; expected a new name; remove it")
    partial = target.with_name(target.name + ".partial")
    count = 0
    with open(partial, "w", encoding="utf-8") as out:
        for frame in frames:
            out.write(_format(frame))
            count += 1
    os.replace(partial, target)
    return count


def _last_line_is_cut(block: list[str]) -> bool:
    """Whether the file ends inside the last number of a table with columns of fixed width."""
    widths = {len(line.rstrip("\n")) for line in block[2:-1]}
    return not block[-1].endswith("\n") and len(widths) == 1 and len(block[-1]) < widths.pop()


def _format(frame: Frame) -> str:
    head = []
    if frame.cell.any():
        head.append(f'Lattice="{_numbers(frame.cell)}"')
    columns = [frame.positions]
    properties = "species:S:1:pos:R:3"
    if frame.forces is not None:
        columns.append(frame.forces)
        properties += ":forces:R:3"
    head.append(f"Properties={properties}")
    if frame.energy is not None:
        head.append(f"energy={float(frame.energy)!r}")
    if frame.stress is not None:
        head.append(f'stress="{_numbers(frame.stress)}"')
    if frame.group:
        quoted = frame.group.replace("\\", "\\\\").replace('"', '\\"')
        head.append(f'config_type="{quoted}"')
    head.append('pbc="{} {} {}"'.format(*("T" if p else "F" for p in frame.pbc)))
    table = np.concatenate(columns, axis=1)
    rows = [
        f"{chemical_symbols[z]} {_numbers(row)}"
        for z, row in zip(frame.numbers.tolist(), table, strict=True)
    ]
    return "\n".join([str(len(rows)), " ".join(head), *rows]) + "\n"


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(x)) for x in np.ravel(values))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
