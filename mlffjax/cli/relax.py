"""``mlffjax relax``: structures to the minima nearest to them."""

import argparse
from pathlib import Path

from mlffjax.cli import arguments

EXAMPLES = """
mlffjax relax runs/ethanol frames.extxyz --out relaxed.extxyz fmax=0.001
mlffjax relax runs/silicon POSCAR --out relaxed.extxyz cell=true pressure_gpa=10
mlffjax relax runs/cu slabs.extxyz --out relaxed.extxyz method=fire fixed_atoms=[0,1,2,3]
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "relax", "relax structures, many at a time", EXAMPLES
    )
    arguments.add_model(parser)
    parser.add_argument("file", metavar="STRUCTURES", help="any number, in any format of ASE")
    arguments.add_settings(
        parser,
        "settings, such as fmax=0.01 method=fire cell=true steps=500; "
        "all of them: mlffjax settings relax",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT.extxyz",
        help="extended XYZ with energies (eV), forces (eV/Angstrom), stresses (eV/Angstrom^3)",
    )
    parser.add_argument("--config", type=Path, metavar="RELAX.yaml", help="settings of the run")
    arguments.add_overwrite(parser)
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Relax, write all structures, and say which did not converge."""
    from mlffjax.config.explore import RelaxSettings
    from mlffjax.config.files import override, read_yaml

    values = read_yaml(args.config) if args.config else {}
    settings = RelaxSettings.parse(
        override(values, args.settings), source=str(args.config or "command line")
    )

    import numpy as np
    from tqdm import tqdm

    from mlffjax.cli.potential import load_potential
    from mlffjax.data import read_structures, write_extxyz
    from mlffjax.explore.relax import relax
    from mlffjax.explore.relax_constraints import Fixed
    from mlffjax.explore.structures import carried

    arguments.check_output(args.out, overwrite=args.overwrite)
    frames = read_structures(args.file)
    potential = load_potential(args.model)
    with tqdm(total=len(frames), unit="structure", disable=None) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        results = relax(potential, frames, settings, progress=progress)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_extxyz([result.frame for result in results], args.out, overwrite=args.overwrite)
    calls = np.array([result.force_calls for result in results])
    rows = [
        ("converged", f"{sum(r.converged for r in results)} of {len(results)}"),
        ("force calls", f"{calls.mean():.1f} a structure, {calls.max()} at most"),
    ]
    held = sum(carried(frame) != Fixed() for frame in frames)
    if held:
        rows.append(("constraints of the file", f"kept in {held} of {len(results)}"))
    arguments.print_rows(rows)
    print(f"\nrelaxed structures in {args.out}")
    rest = [f"{k} ({r.status})" for k, r in enumerate(results) if not r.converged]
    if rest:
        raise ValueError(
            f"got {len(rest)} structures that have not converged: {', '.join(rest[:10])}"
            f"{', ...' if len(rest) > 10 else ''}; expected forces below {settings.fmax}; raise "
            "steps or fmax, or look at these structures"
        )
