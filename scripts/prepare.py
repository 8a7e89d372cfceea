r"""Prepares a data set from a folder of images and masks, and writes a quality report.

    segjax prepare --images=FOLDER --masks=FOLDER --metadata=TABLE.csv --out=my_data
    segjax train --config=semantic:dataset=folder --config.dataset.data_dir=my_data --workdir=runs/mine

Masks are label images, colours, one file per instance, COCO, LabelMe, VOC, QuPath or ImageJ files. Binary
masks are refused unless --mask_format=binary is set, which makes every connected component an instance. The
table has a column `image` and any of patient (or group, slide, well, acquisition), split, class, pixel_size;
--pattern='{patient}_{slide}_{}' reads them from the file names instead. All images of a patient go to one
split. Images that cannot be repaired safely are quarantined, which means left out and listed in
my_data/report/index.html. Your files are never changed or deleted.

Preparation can be stopped at any time; the same command resumes it, with byte-identical results.

To prepare a public data set and report on it, pass its name:

    segjax prepare --dataset=bbbc038 --data_dir=FOLDER --out=reports/bbbc038
"""

import os

from absl import flags

from segjax import cli
from segjax.errors import InputError

IMAGES = flags.DEFINE_string(
    "images", None, "Folder of images and subfolders, or a file pattern such as 'set/*/images/*.png'."
)
MASKS = flags.DEFINE_string("masks", None, "Folder of masks, or the single COCO file of all images.")
MASK_FORMAT = flags.DEFINE_string(
    "mask_format",
    "auto",
    "Format of the masks: labels, colours, binary, classes, instances, coco, labelme, voc, qupath or imagej;"
    " auto detects it from the files.",
)
METADATA = flags.DEFINE_string(
    "metadata",
    None,
    "Table, separated by commas, semicolons or tabs, with a column image and any of patient (or group, slide,"
    " well, acquisition), split, class, pixel_size.",
)
PATTERN = flags.DEFINE_string(
    "pattern", None, "Pattern that reads these columns from paths, such as '{patient}/{slide}_{}'."
)
CLASSES = flags.DEFINE_list("classes", [], "Names of the classes 1, 2, ..., if the masks do not name them.")
CHANNEL_AXIS = flags.DEFINE_integer(
    "channel_axis", None, "Axis of the channels in a stack, if the file does not name its axes."
)
AXIS = flags.DEFINE_list(
    "axis",
    [],
    "Plane of a stack: the position along each axis, by its letter or number, counted from 0, such as Z=12 or"
    " T=0,Z=12. Masks that are stacks are cut to it, too.",
)
OUT = flags.DEFINE_string("out", None, "Folder for the data set and the report.")
FRACTIONS = flags.DEFINE_list(
    "fractions", ["0.7", "0.15", "0.15"], "Fractions of images for train, validation and test."
)
SPLIT_BY = flags.DEFINE_enum(
    "split_by", "group", ["group", "image"], "Whether to keep groups together or to split image by image."
)
FOLDS = flags.DEFINE_integer(
    "folds", None, "Number of splits fold_0, fold_1, ... for cross-validation instead.", lower_bound=2
)
SEED = flags.DEFINE_integer("seed", 0, "Random seed of the split.", lower_bound=0)
ACCEPT = flags.DEFINE_list(
    "accept", [], "Kinds of findings, as in quality.json, that do not exclude an image."
)
CROWDS = flags.DEFINE_enum(
    "crowds",
    "ignore",
    ["ignore", "cells"],
    "What annotations of COCO with iscrowd=1 are: regions to ignore, or cells, as some brushes write them.",
)
WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count() or 1, "Number of worker processes; 0 uses only this process.", lower_bound=0
)
PREVIEW = flags.DEFINE_bool("preview", True, "Whether to draw contact sheets for the report.")
BEAM = flags.DEFINE_bool(
    "beam", False, 'Whether to run on Apache Beam; install it by pip install -e ".[beam]".'
)
BEAM_OPTIONS = flags.DEFINE_list(
    "beam_options", [], "Options of Beam, such as --beam_options=--runner=FlinkRunner,..."
)
DATASET = flags.DEFINE_string("dataset", None, "Name of a public data set, instead of --images and --masks.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of public data sets; TFDS's default folder if omitted."
)
flags.mark_flags_as_required(["out"])


def main() -> None:
    """Prepares a folder or a public data set."""
    from segjax.data.planes import parse_planes
    from segjax.experiment.dataset_report import inspect_public
    from segjax.experiment.prepare_folder import prepare_folder
    from segjax.experiment.prepare_inputs import Request
    from segjax.train.interruption import leave_at_once

    leave_at_once()

    if DATASET.value:
        print(inspect_public(DATASET.value, DATA_DIR.value, OUT.value or "", previews=PREVIEW.value))
        return
    if not IMAGES.value or not MASKS.value:
        raise InputError("give --images and --masks, or --dataset=NAME; --help explains")
    try:
        fractions = tuple(float(number) for number in FRACTIONS.value)
    except ValueError:
        raise InputError(
            f"--fractions={','.join(FRACTIONS.value)} are not numbers such as 0.7,0.15,0.15"
        ) from None
    request = Request(
        images=IMAGES.value,
        masks=MASKS.value,
        out=OUT.value or "",
        mask_format=MASK_FORMAT.value,
        metadata=METADATA.value,
        pattern=PATTERN.value,
        classes=tuple(CLASSES.value),
        channel_axis=CHANNEL_AXIS.value,
        axis=parse_planes(AXIS.value),
        fractions=fractions,
        split_by="image" if SPLIT_BY.value == "image" else "group",
        folds=FOLDS.value,
        seed=SEED.value,
        accept=tuple(ACCEPT.value),
        crowds=CROWDS.value,
    )
    beam = BEAM_OPTIONS.value if BEAM.value else None
    print(prepare_folder(request, workers=WORKERS.value, previews=PREVIEW.value, beam=beam))


if __name__ == "__main__":
    cli.run(main)
