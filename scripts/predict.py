"""Segments every image of a folder.

    segjax predict --workdir=runs/quickstart --images=FOLDER --out=FOLDER
    segjax predict --config=classical:method=watershed --images=FOLDER --out=FOLDER

For each image it writes <stem>_labels.tif (instance id of each pixel, 0 for background), <stem>_classes.tif
(class of each pixel) and <stem>_overlay.png (preview). --measure adds <stem>_measurements.csv, and
measurements.csv and measurements.parquet of all images together: size, shape, intensity, texture, neighbours.
--coco adds predictions.json, all instances as a COCO data set; detectors write their own boxes and full
masks, which may overlap. A classical method takes its classes from --config.classifier.file=FILE, which
segjax evaluate writes.
"""

from pathlib import Path

from absl import flags

from segjax import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.")
IMAGES = flags.DEFINE_string("images", None, "Folder of images, or a single image.")
OUT = flags.DEFINE_string("out", None, "Folder for the results.")
MEASURE = flags.DEFINE_bool("measure", False, "Whether to measure every instance and write tables.")
PIXEL_SIZE = flags.DEFINE_float(
    "pixel_size", None, "Side of a pixel in micrometres, for measurements in micrometres.", lower_bound=0.0
)
COCO = flags.DEFINE_bool(
    "coco", False, "Whether to write all instances to predictions.json, as a COCO data set."
)
flags.mark_flags_as_required(["images", "out"])


def main() -> None:
    """Segments the images and prints the number of instances."""
    from segjax.experiment.prediction import predict, select_method

    workdir = Path(WORKDIR.value) if WORKDIR.value else None
    chosen = select_method(workdir, CONFIG.value)
    images, out = Path(IMAGES.value or ""), Path(OUT.value or "")
    made = predict(
        chosen, images, out, measured=MEASURE.value, pixel_size=PIXEL_SIZE.value, as_coco=COCO.value
    )
    done = [count for _, count in made]
    print(f"{sum(done)} instances in {len(done)} images: {OUT.value}")


if __name__ == "__main__":
    cli.run(main)
