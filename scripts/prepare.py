r"""Prepares a data set from a folder of images and masks, and writes a quality report.

    python scripts/prepare.py --images=FOLDER --masks=FOLDER --metadata=TABLE.csv --out=my_data
    python scripts/train.py --config=configs/semantic.py:dataset=folder --config.dataset.data_dir=my_data \
        --workdir=runs/mine

Masks are label images, colours, one file for each instance, COCO, LabelMe, VOC, QuPath or ImageJ files; those
that hold foreground alone are refused unless --mask_format=binary says that every connected part is an
instance. The table has a column `image` and any of patient (or group, slide, well, acquisition), split,
class, pixel_size; --pattern='{patient}_{slide}_{}' reads them from the names of files instead. All images of
a patient go to one split. What is damaged is left out and listed in my_data/report/index.html; no file is
changed or deleted.

It can be stopped at any time: the same command resumes, with byte-identical results.

A public data set is prepared, and reported on, by its name:

    python scripts/prepare.py --dataset=bbbc038 --data_dir=FOLDER --out=reports/bbbc038
"""

import os

from absl import flags

from segjax import cli
from segjax.errors import InputError

IMAGES = flags.DEFINE_string(
    "images", None, "Folder of images, searched through, or a pattern of files such as 'set/*/images/*.png'."
)
MASKS = flags.DEFINE_string(
    "masks", None, "Folder of masks, or the one file that describes all images (COCO)."
)
MASK_FORMAT = flags.DEFINE_string(
    "mask_format",
    "auto",
    "labels, colours, binary, instances, coco, labelme, voc, qupath, imagej; auto looks at the files.",
)
METADATA = flags.DEFINE_string(
    "metadata", None, "CSV that says of each image its patient, split, class, pixel_size."
)
PATTERN = flags.DEFINE_string("pattern", None, "The same from paths without suffix: '{patient}/{slide}_{}'.")
CLASSES = flags.DEFINE_list(
    "classes", [], "Names of the classes 1, 2, ..., where the masks do not name them."
)
CHANNEL_AXIS = flags.DEFINE_integer(
    "channel_axis", None, "Where channels are in a stack, if the file does not say it."
)
OUT = flags.DEFINE_string("out", None, "Folder for the data set and the report.")
SHARES = flags.DEFINE_list("shares", ["0.7", "0.15", "0.15"], "Fractions of train, validation and test.")
SPLIT_BY = flags.DEFINE_enum(
    "split_by", "group", ["group", "image"], "Keep groups together, or split by image."
)
FOLDS = flags.DEFINE_integer(
    "folds", None, "Splits fold_0, fold_1, ... for cross-validation instead.", lower_bound=2
)
SEED = flags.DEFINE_integer("seed", 0, "Random seed of the split.")
ACCEPT = flags.DEFINE_list(
    "accept", [], "Findings for which an image is not set aside, as named in quality.json."
)
WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count() or 1, "Worker processes; 0 runs in this process.", lower_bound=0
)
PREVIEW = flags.DEFINE_bool("preview", True, "Draw contact sheets into the report.")
BEAM = flags.DEFINE_bool("beam", False, 'Run on Apache Beam: pip install -e ".[beam]".')
BEAM_OPTIONS = flags.DEFINE_list(
    "beam_options", [], "Options of Beam: --beam_options=--runner=FlinkRunner,..."
)
DATASET = flags.DEFINE_string("dataset", None, "A public data set, by name, instead of --images and --masks.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where public data sets are kept; TFDS's folder if not given."
)
flags.mark_flags_as_required(["out"])


def main() -> None:
    """Prepares."""
    from segjax.experiment.dataset_report import inspect_public
    from segjax.experiment.prepare_folder import Request, prepare_folder

    if DATASET.value:
        print(inspect_public(DATASET.value, DATA_DIR.value, OUT.value or "", previews=PREVIEW.value))
        return
    if not IMAGES.value or not MASKS.value:
        raise InputError("give --images and --masks, or --dataset=NAME; --help explains")
    try:
        shares = tuple(float(share) for share in SHARES.value)
    except ValueError:
        raise InputError(f"--shares={','.join(SHARES.value)} are no numbers: such as 0.7,0.15,0.15") from None
    request = Request(
        images=IMAGES.value,
        masks=MASKS.value,
        out=OUT.value or "",
        mask_format=MASK_FORMAT.value,
        metadata=METADATA.value,
        pattern=PATTERN.value,
        classes=tuple(CLASSES.value),
        channel_axis=CHANNEL_AXIS.value,
        shares=shares,
        split_by="image" if SPLIT_BY.value == "image" else "group",
        folds=FOLDS.value,
        seed=SEED.value,
        accept=tuple(ACCEPT.value),
    )
    beam = BEAM_OPTIONS.value if BEAM.value else None
    print(prepare_folder(request, workers=WORKERS.value, previews=PREVIEW.value, beam=beam))


if __name__ == "__main__":
    cli.run(main)
