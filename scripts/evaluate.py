"""Evaluates methods on a split, or predictions of any program, and writes a report.

segjax evaluate --workdir=runs/quickstart --split=test
segjax evaluate --config=classical:method=watershed --out=runs/watershed
segjax evaluate --model=nuclei --config=classical:dataset=bbbc038 --out=runs/nuclei_on_bbbc038
segjax evaluate --truth=masks --prediction=masks_of_a_program --json=scores.json --out=report
segjax evaluate runs/a runs/b masks_of_a_program --compare --out=runs/comparison

Truth and predictions are label images, COCO JSON, GeoJSON, or any other format of segjax prepare, matched by
the names of the images. --compare scores all on the split of the first run, or on --truth, with intervals and
differences from the first one. With several processes, each evaluates a part of the images; see
scripts/README.md.
"""

from collections.abc import Sequence
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
    "With --workdir: whether to fit the decoder on the validation split first, as segjax train does.",
)
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
OUT = flags.DEFINE_string("out", None, "Folder for the report; with --workdir, it is there by default.")
TRUTH = flags.DEFINE_string("truth", None, "Folder or file of true segmentations, in any format.")
PREDICTION = flags.DEFINE_multi_string(
    "prediction", [], "Folder or file of predictions of any program; repeat the flag for several programs."
)
COMPARE = flags.DEFINE_bool(
    "compare", False, "Whether to compare the runs, networks and predictions that are given as arguments."
)
JSON = flags.DEFINE_string("json", None, "With --truth or --compare: file for the scores, as metrics.json.")
TRUTH_FORMAT = flags.DEFINE_string("truth_format", "auto", "Format of --truth, as in segjax prepare.")
PREDICTION_FORMAT = flags.DEFINE_string(
    "prediction_format", "auto", "Format of the predictions, as in segjax prepare."
)
IMAGES = flags.DEFINE_string("images", None, "With --truth: folder of the images, for the report.")
METADATA = flags.DEFINE_string(
    "metadata", None, "With --truth: table with the patient or group of each image, as in segjax prepare."
)


# The flags that an evaluation uses, by the flag that chooses its kind; the first one that is given chooses.
FILES = ("prediction", "truth_format", "prediction_format", "json", "out")
USED = {
    "truth": ("truth", "compare", "images", "metadata", *FILES),
    "compare": ("compare", "split", *FILES),
    "workdir": ("workdir", "fit", "split", "out"),
    "model": ("model", "config", "split", "out"),
    "config": ("config", "split", "out"),
}


def check_flags() -> None:
    """Refuses flags that have no effect."""
    kind = next((name for name in USED if flags.FLAGS[name].value), None)
    for name in dict.fromkeys(name for names in USED.values() for name in names):
        if kind is not None and flags.FLAGS[name].present and name not in USED[kind]:
            raise InputError(f"--{name} has no effect with --{kind}: leave it out")


def main(paths: Sequence[str]) -> None:
    """Checks the flags, connects the processes if there are several, and evaluates."""
    if paths and not COMPARE.value:
        raise InputError(f"unexpected argument {paths[0]!r}: add --compare, or write options as --name=value")
    if TRUTH.value is not None or COMPARE.value:
        if not OUT.value and not JSON.value:
            raise InputError("give --out=FOLDER for the report, or --json=FILE for the scores")
        if not paths and not PREDICTION.value:
            raise InputError("give --prediction=FOLDER: the predictions to score")
    elif MODEL.value is not None and CONFIG.value is None and WORKDIR.value is None:
        raise InputError(
            "--model needs --config, whose data set it is evaluated on, such as"
            f" --model={MODEL.value} --config=classical:dataset=bbbc038"
        )
    elif (WORKDIR.value is None) == (CONFIG.value is None):
        raise InputError(
            "give --workdir=RUN, a trained run, --config=FILE, a classical method, or --truth and"
            " --prediction"
        )
    elif WORKDIR.value is not None and MODEL.value is not None:
        raise InputError(
            "--workdir and --model both name a network: give one, --model together with --config"
        )
    elif CONFIG.value is not None and "methods" not in CONFIG.value and MODEL.value is None:
        raise InputError("--config names a network, which has to be trained first: give --workdir=RUN")
    elif CONFIG.value is not None and not OUT.value:
        raise InputError("give --out=FOLDER: where to write the report")
    check_flags()
    with connected_processes():
        cli.print_once(evaluate(paths))


def evaluate(paths: Sequence[str]) -> str:
    """Evaluates methods or predictions and writes the results; returns the comparison to print."""
    from segjax.experiment.evaluation import evaluate_classical, evaluate_model, evaluate_workdir

    folder = Path(OUT.value or "")
    if TRUTH.value is not None or COMPARE.value:
        return compare(paths)
    if WORKDIR.value:
        out = folder if OUT.value else None
        return evaluate_workdir(Path(WORKDIR.value), SPLIT.value, fit=FIT.value, folder=out)
    if MODEL.value is not None:
        return evaluate_model(MODEL.value, CONFIG.value, SPLIT.value, folder)
    return evaluate_classical(CONFIG.value, SPLIT.value, folder)


def compare(paths: Sequence[str]) -> str:
    """Scores predictions, and runs if there are any, on the same images."""
    from segjax.experiment.evaluation_compare import Files, compare_and_write
    from segjax.experiment.workdir import seed_folders

    for path in (*paths, *PREDICTION.value):
        if seeds := seed_folders(Path(path)):
            raise InputError(
                f"{path} contains the {len(seeds)} runs of an ensemble: give runs, such as {seeds[0]}"
            )
    files = Files(
        truth=TRUTH.value,
        prediction=tuple(PREDICTION.value),
        truth_format=TRUTH_FORMAT.value,
        prediction_format=PREDICTION_FORMAT.value,
        images=IMAGES.value,
        metadata=METADATA.value,
    )
    out = Path(OUT.value) if OUT.value else None
    json = Path(JSON.value) if JSON.value else None
    return compare_and_write(paths, files, SPLIT.value, out=out, json=json)


if __name__ == "__main__":
    cli.run(main, positional=True)
