"""Arguments that several commands share."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

RawText = argparse.RawDescriptionHelpFormatter


def command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    common: argparse.ArgumentParser,
    name: str,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A subcommand with a one-line summary and worked examples in its ``--help``."""
    return commands.add_parser(
        name,
        parents=[common],
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
        formatter_class=RawText,
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The potential to use."""
    parser.add_argument("model", metavar="MODEL", help="folder of a potential or of a run")


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Assignments that override settings."""
    parser.add_argument("settings", nargs="*", metavar="key=value", help=what)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Permission to replace earlier results."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is already there")


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Structures of one compiled call."""
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="structures at a time (32)"
    )


def positive(text: str) -> int:
    """A whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected at least 1")
    return value


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values in two columns."""
    for name, value in rows:
        print(f"{name:<28}{value}")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Find out before the computation whether its results can be written and nothing is lost.

    Raises:
      FileExistsError: ``path`` exists and may not be replaced.
      NotADirectoryError, PermissionError: it cannot be made.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"got {path}, which exists; expected a new name; choose another, or add --overwrite"
        )
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(
            f"got {path} to write to, but {above} is a file; expected a folder; choose another name"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(
            f"got {path} to write to, but {above} may not be written to; expected a folder of "
            "yours; choose another name"
        )
