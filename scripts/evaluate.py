"""Evaluates a method and the reference on a split, and writes a report.

segjax evaluate --workdir=runs/quickstart --split=test
segjax evaluate --config=classical:method=watershed --out=runs/watershed
segjax evaluate --model=nuclei --config=classical:dataset=bbbc038 --out=runs/nuclei_on_bbbc038

Several processes take a part of the images each; see scripts/README.md.
"""

from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
connected_processes = cli.define_processes()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "Name of a network in the package, file of segjax export, or folder of a run, to be evaluated on the data"
    " set of --config.",
)
FIT = flags.DEFINE_bool(
    "fit",
    False,
    "With --workdir: whether to fit the decoder on the validation split first; segjax train ends with that.",
)
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
OUT = flags.DEFINE_string("out", None, "Folder for the report; with --workdir, the default is there.")


def main() -> None:
    """Checks the flags, connects the processes if there are several, and evaluates."""
    if (WORKDIR.value is None) == (CONFIG.value is None):
        raise InputError("give either --workdir=RUN, a trained run, or --config=FILE, a classical method")
    if CONFIG.value is not None and "methods" not in CONFIG.value and MODEL.value is None:
        raise InputError("--config names a network, which has to be trained first: give --workdir=RUN")
    if CONFIG.value is not None and not OUT.value:
        raise InputError("give --out=FOLDER: where to write the report")
    with connected_processes():
        cli.print_once(evaluate())


def evaluate() -> str:
    """Evaluates a method and writes the report; returns the comparison to print."""
    from segjax.experiment.evaluation import evaluate_classical, evaluate_model, evaluate_workdir

    folder = Path(OUT.value or "")
    if WORKDIR.value:
        out = folder if OUT.value else None
        return evaluate_workdir(Path(WORKDIR.value), SPLIT.value, fit=FIT.value, folder=out)
    if MODEL.value is not None:
        return evaluate_model(MODEL.value, CONFIG.value, SPLIT.value, folder)
    return evaluate_classical(CONFIG.value, SPLIT.value, folder)


if __name__ == "__main__":
    cli.run(main)
