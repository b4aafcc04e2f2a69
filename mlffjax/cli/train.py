"""``mlffjax train``: a potential from a YAML file."""

import argparse

from mlffjax.cli import arguments
from mlffjax.cli.process import use_x64

EXAMPLES = """
mlffjax train ethanol.yaml
mlffjax train ethanol.yaml training.epochs=200 model.num_features=64
mlffjax train ethanol.yaml --dry-run
mlffjax train ethanol.yaml --resume

to go on from a saved or imported potential with other data (fine-tuning), in place of
architecture and cutoff below:
  model: {start: runs/ethanol}

a small ethanol.yaml:
  data:
    train: builtin:ethanol
    split: {train: 1000, valid: 100, test: 200}
  model:
    architecture: so3krates
    cutoff: 5.0
  training:
    epochs: 100
    optimizer: {learning_rate: 1e-3}
  output:
    folder: runs/ethanol
"""


def add(commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = arguments.command(
        commands, common, "train", "train a potential on reference frames", EXAMPLES
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="settings of the run")
    arguments.add_settings(
        parser,
        "settings that replace those of the file; all of them: mlffjax settings training (also "
        "data, output, and so3krates and the other architectures)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    again.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in the folder; files that no run writes stay there",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print shapes, number of parameters and memory, and train nothing",
    )
    parser.set_defaults(run=run, computes=True)


def run(args: argparse.Namespace) -> None:
    """Train, or describe what would be trained."""
    from mlffjax.config.run import RunSettings

    settings = RunSettings.load(args.config, args.settings)

    use_x64(settings.training.dtype)
    if args.dry_run:
        from mlffjax.dry_run import describe_run

        arguments.print_rows(describe_run(settings))
        return

    from mlffjax.training.callbacks import ValidationLines
    from mlffjax.workflow import metrics_table, train

    outcome = train(
        settings,
        resume=args.resume,
        overwrite=args.overwrite,
        callbacks=() if settings.training.progress else (ValidationLines(),),
        say=print,
    )
    if outcome.test is not None:
        print(f"\n{len(outcome.sets.test)} test frames")
        print(metrics_table(outcome.test))
    print(f"\nrun and potential in {outcome.folder}")
