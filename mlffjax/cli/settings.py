"""``mlffjax settings``: the settings of a command, what they mean, and their defaults."""

import argparse
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from mlffjax.cli import arguments

if TYPE_CHECKING:
    from mlffjax.config.base import Settings

EXAMPLES = """
mlffjax settings
mlffjax settings md
mlffjax settings training
mlffjax settings so3krates
"""

#: Sections of the file of ``mlffjax train``, and what other commands take.
SECTIONS = ("data", "model", "training", "output")
COMMANDS = ("md", "relax", "hop", "neb", "analyze")


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "settings", "explain the settings of a command", EXAMPLES
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        help="a section of the file of train, another command, or an architecture; "
        "a list of them if not given",
    )
    parser.set_defaults(run=run, computes=False)


def run(args: argparse.Namespace) -> None:
    """Print names, defaults and meanings."""
    from mlffjax.models import ARCHITECTURES, hyperparameters

    architectures = sorted(ARCHITECTURES)
    if args.what is None:
        arguments.print_rows(
            [
                ("sections of train", ", ".join(SECTIONS)),
                ("fields of section model", ", ".join(architectures)),
                ("other commands", ", ".join(COMMANDS)),
            ]
        )
    elif args.what in ARCHITECTURES:
        cls = ARCHITECTURES[args.what]
        defaults = {key: getattr(cls, key, None) for key in hyperparameters(cls)}
        print_entries(cls, {key: _shown(value) for key, value in defaults.items()}, "model.")
    elif args.what in SECTIONS:
        print_settings(_classes()[args.what], f"{args.what}.")
    elif args.what in COMMANDS:
        print_settings(_classes()[args.what], "")
    else:
        known = ", ".join((*SECTIONS, *COMMANDS, *architectures))
        raise ValueError(f"got {args.what!r}; expected one of {known}")


def _classes() -> "Mapping[str, type[Settings]]":
    from mlffjax.config.analysis import AnalysisSettings
    from mlffjax.config.data import DataSettings
    from mlffjax.config.explore import HoppingSettings, RelaxSettings
    from mlffjax.config.md import MDSettings
    from mlffjax.config.paths import NEBSettings
    from mlffjax.config.run import ModelSettings, OutputSettings
    from mlffjax.config.training import TrainingSettings

    return {
        "data": DataSettings,
        "model": ModelSettings,
        "training": TrainingSettings,
        "output": OutputSettings,
        "md": MDSettings,
        "relax": RelaxSettings,
        "hop": HoppingSettings,
        "neb": NEBSettings,
        "analyze": AnalysisSettings,
    }


def print_settings(cls: "type[Settings]", prefix: str, values: "Settings | None" = None) -> None:
    """Print the fields of settings, then those of the sections in them.

    Args:
      cls: the settings.
      prefix: of their names.
      values: defaults; those of the class if not given.
    """
    defaults, sections = {}, []
    for name, field in cls.model_fields.items():
        inner = _settings_in(field.annotation)
        value = field.default if values is None else getattr(values, name)
        many = isinstance(value, tuple)
        if inner is not None:
            sections.append((f"{name}[]" if many else name, inner, None if many else value))
        section = inner is not None and not many and value is not None
        required = values is None and field.is_required()
        defaults[name] = "(required)" if required else "..." if section else _shown(value)
    print_entries(cls, defaults, prefix)
    for name, inner, value in sections:
        summary = inspect.cleandoc(inner.__doc__ or "").splitlines()[0]
        print(f"\n{prefix}{name}: {_plain(summary)}\n")
        print_settings(inner, f"{prefix}{name}.", value)


def print_entries(cls: type, defaults: Mapping[str, str], prefix: str) -> None:
    """Print names with their defaults above what the docstrings say of them."""
    for names, text in attributes(cls).items():
        known = [name for name in names if name in defaults]
        for name in known:
            print(f"{prefix}{name} = {defaults[name]}")
        if known:
            print(textwrap.fill(text, 96, initial_indent="    ", subsequent_indent="    "))


def attributes(cls: type) -> dict[tuple[str, ...], str]:
    """Names and plain text of the entries under ``Attributes:``, those of base classes first."""
    found = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        # The section ends with the first line that is not indented.
        section = re.split(r"^(?=\S)", text.partition("Attributes:\n")[2], flags=re.MULTILINE)[0]
        for entry in re.split(r"^  (?=\S)", section, flags=re.MULTILINE)[1:]:
            names, _, meaning = entry.partition(": ")
            found[tuple(names.split(", "))] = _plain(meaning)
    return found


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text)
    return " ".join(text.replace("``", "").split())


def _settings_in(annotation: Any) -> "type[Settings] | None":
    """The settings that a field is, may be, or holds a number of."""
    from mlffjax.config.base import Settings

    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind
    return None


def _shown(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
