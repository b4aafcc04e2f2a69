"""``mlffjax info``: what a potential is, or what is installed."""

import argparse
import json
import platform
from typing import TYPE_CHECKING

from mlffjax.cli import arguments

if TYPE_CHECKING:
    from mlffjax.potential import Potential

EXAMPLES = """
mlffjax info
mlffjax info runs/ethanol
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "info", "describe a potential, or versions and devices", EXAMPLES
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="folder of a potential or run")
    parser.set_defaults(run=run, computes=False)


def run(args: argparse.Namespace) -> None:
    """Print names and values."""
    if args.model is None:
        arguments.print_rows(_installation())
        return
    from mlffjax.cli.potential import load_potential

    arguments.print_rows(_potential(load_potential(args.model)))


def _installation() -> list[tuple[str, str]]:
    import jax

    from mlffjax.checkpoint import package_versions
    from mlffjax.cli.process import cache_folder
    from mlffjax.models import ARCHITECTURES

    return [
        *package_versions().items(),
        ("python", platform.python_version()),
        ("devices", ", ".join(f"{d} ({d.device_kind})" for d in jax.devices())),
        ("architectures", ", ".join(sorted(ARCHITECTURES))),
        ("compiled programs", str(cache_folder())),
    ]


def _potential(potential: "Potential") -> list[tuple[str, str]]:
    from ase.data import chemical_symbols

    from mlffjax.models import describe
    from mlffjax.training.metrics import in_milli_units

    name, fields = describe(potential.module)
    symbols = [chemical_symbols[z] for z in potential.elements]
    energies = [f"{s} {e:.4f}" for s, e in zip(symbols, potential.baseline, strict=True)]
    about = json.loads(potential.metadata)
    rows = [
        ("architecture", name),
        *((f"  {key}", str(value)) for key, value in fields.items()),
        ("parameters", f"{potential.num_parameters:,}"),
        ("dtype", str(potential.dtype)),
        ("elements", ", ".join(symbols)),
        ("baseline E0 (eV)", ", ".join(energies)),
        ("shift besides E0 (eV)", _shift(symbols, potential.shift)),
        ("scale (eV)", f"{potential.scale:.6g}"),
        ("forces", "direct" if potential.module.direct_forces else "energy gradient"),
    ]
    for section, values in about.items():
        if isinstance(values, dict):
            units = section == "metrics"
            rows += [
                (f"{section}: {key}", in_milli_units(key, v) if units else _short(v))
                for key, v in values.items()
            ]
        else:
            rows.append((section, _short(values)))
    return rows


def _shift(symbols: list[str], shift: "tuple[float, ...] | None") -> str:
    """What every atom has besides E0 and the network, a lone one too."""
    if shift is None:
        return "none"
    return ", ".join(f"{s} {e:.4f}" for s, e in zip(symbols, shift, strict=True))


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
