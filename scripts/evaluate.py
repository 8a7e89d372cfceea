"""Evaluates a method and the reference on a split, and writes a report.

segjax evaluate --workdir=runs/quickstart --split=test
segjax evaluate --config=classical:method=watershed --out=runs/watershed
"""

from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.")
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
OUT = flags.DEFINE_string("out", None, "Folder for the report, with --config.")


def main() -> None:
    """Evaluates a method and writes the report."""
    from segjax.experiment.evaluation import evaluate_classical, evaluate_workdir

    if (WORKDIR.value is None) == (CONFIG.value is None):
        raise InputError("give either --workdir=RUN, a trained run, or --config=FILE, a classical method")
    if WORKDIR.value:
        print(evaluate_workdir(Path(WORKDIR.value), SPLIT.value))
        return
    if "methods" not in CONFIG.value:
        raise InputError("--config names a network, which has to be trained first: give --workdir=RUN")
    if OUT.value is None:
        raise InputError("give --out=FOLDER: where to write the report of a classical method")
    print(evaluate_classical(CONFIG.value, SPLIT.value, Path(OUT.value)))


if __name__ == "__main__":
    cli.run(main)
