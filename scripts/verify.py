"""Reproduces the scores in the tables of a README, and reports which differ.

    segjax verify README.md --workdir=runs/verify
    segjax verify configs/README.md --workdir=runs/verify --only=classical

Tables after a comment <!-- verify: ... --> have figures that commands make, see segjax.experiment.figures.
Each command runs in WORKDIR, so that its results are below WORKDIR; a command that has results there does not
run again. If a figure changed, but the interval of 95 % has the printed one, the cause may be other hardware.
The exit code is 1 if a figure differs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder in which the commands run.", required=True)
ONLY = flags.DEFINE_string("only", "", "Run only the commands that contain this text.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Whether to list the commands and their figures only.")


def main(paths: Sequence[str]) -> None:
    """Runs the commands, and prints a line for each figure."""
    from segjax.experiment.environment import hardware_info
    from segjax.experiment.figures import group_by_command, read_figures, results_folder
    from segjax.experiment.verification import verify

    if not paths:
        raise InputError("name a Markdown file: segjax verify README.md --workdir=FOLDER")
    figures = [figure for path in paths for figure in read_figures(Path(path))]
    chosen = [(command, group) for command, group in group_by_command(figures) if ONLY.value in command]
    if not chosen:
        raise InputError(
            f"{', '.join(paths)}: no table with a verify comment has a command with {ONLY.value!r}"
        )
    for command, _ in chosen:
        results_folder(command)
    if DRY_RUN.value:
        for command, group in chosen:
            print(f"{command}\n" + "\n".join(f"  {one.row}, {one.column}: {one.printed}" for one in group))
        return
    print(", ".join(f"{name} {value}" for name, value in hardware_info().items()), flush=True)
    different = 0
    for command, group in chosen:
        print(command, flush=True)
        for compared in verify(command, group, Path(WORKDIR.value)):
            print(f"  {compared}", flush=True)
            different += compared.state == "differs"
    total = sum(len(group) for _, group in chosen)
    print(f"{different} of {total} figures differ" if different else f"no figure of {total} differs")
    if different:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, positional=True)
