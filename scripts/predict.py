"""Segments every image of a folder.

    python scripts/predict.py --workdir=runs/quickstart --images=FOLDER --out=FOLDER
    python scripts/predict.py --config=configs/classical.py:method=watershed --images=FOLDER --out=FOLDER

For each image it writes <stem>_labels.tif (the id of each pixel's instance, 0 for none), <stem>_classes.tif
(the class of each pixel) and <stem>_overlay.png (to look at).
"""

from pathlib import Path

from absl import flags

from segjax import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of scripts/train.py.")
IMAGES = flags.DEFINE_string("images", None, "A folder of images, or one image.")
OUT = flags.DEFINE_string("out", None, "The folder for the results.")
flags.mark_flags_as_required(["images", "out"])


def main() -> None:
    """Predicts."""
    from segjax.experiment.prediction import choose_method, predict

    workdir = Path(WORKDIR.value) if WORKDIR.value else None
    chosen = choose_method(workdir, CONFIG.value)
    done = [count for _, count in predict(chosen, Path(IMAGES.value or ""), Path(OUT.value or ""))]
    print(f"{sum(done)} instances in {len(done)} images: {OUT.value}")


if __name__ == "__main__":
    cli.run(main)
