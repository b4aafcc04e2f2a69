"""The ``mlffjax`` command: one file a subcommand, each of which parses, calls and prints."""

import argparse
import os
import sys
from collections.abc import Sequence

from mlffjax.cli import (
    analyze,
    compress,
    data,
    evaluate,
    hop,
    import_weights,
    info,
    md,
    neb,
    predict,
    process,
    quickstart,
    relax,
    scan,
    settings,
    train,
    vibrations,
)

COMMANDS = (
    train,
    evaluate,
    predict,
    compress,
    md,
    relax,
    hop,
    neb,
    scan,
    vibrations,
    analyze,
    info,
    settings,
    data,
    import_weights,
    quickstart,
)

_EPILOG = """\
environment:
  MLFFJAX_ALLOCATOR=system   keep the C library's own memory settings (see below)
  MLFFJAX_CACHE              folder of compiled programs (default ~/.cache/mlffjax/jax)
  MLFFJAX_XLA=default        let XLA write element-wise kernels for CPUs by tiles (see below)

Compiled programs are kept between calls; --no-compilation-cache turns this off. On Linux glibc
is told to keep memory instead of returning it to the system, and to ask for huge pages (not where
GLIBC_TUNABLES is set): up to twice as fast on a CPU, for more memory. XLA is told to write
element-wise kernels for CPUs as plain loops, which are several times faster than its tiles; extra
options of your own in XLA_FLAGS stay as they are.
"""


#: Computations that failed: XLA's errors, lists of neighbours that outgrow their room.
_FAILURES = (RuntimeError, MemoryError)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands. Nothing heavy is imported for it."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument(
        "--no-compilation-cache",
        dest="compilation_cache",
        action="store_false",
        help="do not keep compiled programs between calls",
    )
    top = argparse.ArgumentParser(
        prog="mlffjax",
        description="Machine-learned force fields in JAX: train by force matching, simulate.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add(commands, common)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      argv: the arguments, or ``None`` for those of the process. Only then the settings of the
        process (allocator, compilation cache) are touched.

    Returns:
      The exit code: 0, 2 after an error of the input or a computation that failed, 130 after an
      interrupt.
    """
    top = parser()
    args = _parse(top, argv)
    if args.version:
        from mlffjax import __version__

        print(f"mlffjax {__version__}")
        return 0
    if args.command is None:
        top.print_help()
        return 0
    if argv is None and args.computes:
        process.prepare(compilation_cache=args.compilation_cache)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe is gone; the rest of the output has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, FloatingPointError, ImportError, *_FAILURES) as error:
        if args.debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(top: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse; ``key=value`` may also stand after an option, where argparse gives up on it."""
    args, rest = top.parse_known_args(argv)
    late = [text for text in rest if "=" in text and not text.startswith("-")]
    if rest and (len(late) < len(rest) or not hasattr(args, "settings")):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if late:
        args.settings = [*args.settings, *late]
    return args


def _one_line(error: Exception) -> str:
    """The message; of an ``OSError`` the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, _FAILURES):
        lines = lines[:1]  # XLA's lists of buffers follow.
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in "".join(lines):
            return (
                f"got a computation that needs more memory than there is ({''.join(lines)}); "
                "expected one that fits; take a smaller batch, fewer replicas or smaller structures"
            )
    return "\n       ".join(lines) if lines else type(error).__name__
