r"""Tunes the parameters of classical methods on training images only.

    segjax ablate --config=classical:method=kmeans --out=runs/kmeans_search
    segjax ablate --config=classical:method=kmeans --out=runs/kmeans_search \
        --sweep=methods.kmeans.num_clusters=2,3,4 --sweep=methods.kmeans.gamma=0.5,1.0

Fields are tuned one after the other; each field is fixed at its best value before the next one is tried.
Without --sweep, `sweep` in the config file lists fields and values. All trials are written to ablation.json.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
SWEEP = flags.DEFINE_multi_string(
    "sweep", [], "field=value,value: a field and the values to try; may be repeated."
)
IMAGES = flags.DEFINE_integer("images", 40, "Maximum number of training images.", lower_bound=1)
SCORE = flags.DEFINE_string("score", "AP 0.5", "Score to maximise, a column of the comparison.")
OUT = flags.DEFINE_string("out", None, "Folder for ablation.json.")
flags.mark_flags_as_required(["config", "out"])


def main() -> None:
    """Runs the search and prints its result."""
    from segjax.experiment.ablation import search

    tries = list(parse_sweeps(SWEEP.value)) or list(sweep_of_config())
    print(search(CONFIG.value, tries, images=IMAGES.value, score=SCORE.value, out=Path(OUT.value or "")))


def parse_sweeps(sweeps: list[str]) -> Iterator[dict[str, Any]]:
    """Yields an override per value of `field=value,value`; a value is a Python literal or else a string."""
    for sweep in sweeps:
        field, equals, values = sweep.partition("=")
        if not equals or not values:
            raise InputError(f"--sweep={sweep} is not field=value,value")
        for value in values.split(","):
            try:
                yield {field: ast.literal_eval(value)}
            except (SyntaxError, ValueError):
                yield {field: value}


def sweep_of_config() -> Iterator[dict[str, Any]]:
    """Yields the sweep of the config file."""
    path, _, _ = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be loaded: give a config of segjax")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        raise InputError(f"{path} has no sweep(): name the values as --sweep=field=value,value")
    yield from module.sweep(CONFIG.value)


if __name__ == "__main__":
    cli.run(main)
