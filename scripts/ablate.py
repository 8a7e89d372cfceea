r"""Runs the points of a sweep of any config, and compares them in one table.

    segjax ablate --sweep=encoders:dataset=mnfinder --workdir=runs/encoders
    segjax ablate --sweep=my_sweep.py --workdir=runs/mine --shard=0/4
    segjax ablate --config=quickstart --sweep=model.skips=True,False --sweep=seed=0,1,2 --workdir=runs/skips
    segjax ablate --sweep=encoders --halving=3 --workdir=runs/encoders_fast
    segjax ablate --search --sweep=tuning:method=kmeans --split=train --images=8 --workdir=runs/tuned

Networks are trained and evaluated, methods without weights are evaluated. Every point has a folder in
WORKDIR/points; `segjax evaluate --workdir=POINT` writes the report of a network. WORKDIR has the table as
index.html, table.md, table.csv and table.json, and one image through every row as rows.png.

The same command resumes. It may be started several times at once, also on several hosts with a common disk:
each point is run by one of them. A point that fails does not stop the others; --retry runs it again.

With --halving=3, networks are trained to a ninth and to a third of their steps, for example; each time, the
third that validates best goes on. The others stop: the table says where, and gives them no rank. Points that
differ in the seed only are one candidate, with the mean of their scores. A finished point is the same as
without --halving, to the last bit. A process that has to wait for another one says so and ends.

With --search, fields are tried one after the other; each is fixed at its best value before the next one.
"""

import shlex
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
SWEEP = flags.DEFINE_multi_string(
    "sweep",
    None,
    "Name of a sweep in configs/sweeps/, or a file with a function get_sweep(variant), with a variant after a"
    " colon; or field=value,value. If repeated: all combinations.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep: its points and its table.")
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
IMAGES = flags.DEFINE_integer("images", None, "Maximum number of images to evaluate.", lower_bound=1)
ROBUSTNESS = flags.DEFINE_bool(
    "robustness",
    False,
    "Whether to evaluate perturbed images as well, after the points, with the first seed of each row: for the"
    " F1 of the worst perturbation. That takes about twelve times as long as the evaluation of one seed.",
)
SHARD = flags.DEFINE_string("shard", "0/1", "I/N: run only every Nth point, from point I, counted from 0.")
SCORE = flags.DEFINE_string("score", "AP 0.5", "Score that ranks the points, a column of the comparison.")
RETRY = flags.DEFINE_bool(
    "retry",
    False,
    "Whether points that failed run again, and points that --halving stopped are compared again.",
)
HALVING = flags.DEFINE_integer(
    "halving",
    None,
    "N: at each rung, the best 1/N of the trained rows, by validation score, go on; the others stop."
    " Rungs are at steps/N, steps/N^2 and so on, rounded up to a validation; there are as many as the number"
    " of rows can be divided by N.",
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Whether to list the points only, with their states.")
TIMED = flags.DEFINE_integer(
    "timed",
    0,
    "With --dry_run: number of training steps to time for each network, for an estimate of the duration.",
    lower_bound=0,
)
SEARCH = flags.DEFINE_bool(
    "search", False, "Whether to look for the best value of one field after the other."
)
flags.mark_flags_as_required(["sweep", "workdir"])


def main() -> None:
    """Runs the sweep and prints its table."""
    from segjax.ablation.ablate import AblationRequest, ablate
    from segjax.ablation.estimate import list_points
    from segjax.ablation.measure import Evaluating
    from segjax.ablation.search import search
    from segjax.train.interruption import leave_at_once

    leave_at_once()
    index, _, count = SHARD.value.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise InputError(f"--shard={SHARD.value} is not I/N, such as 0/4")
    base = CONFIG.value
    request = AblationRequest(
        SWEEP.value or (),
        Path(WORKDIR.value or ""),
        base,
        None if base is None else Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem,
        Evaluating(SPLIT.value, IMAGES.value),
        ROBUSTNESS.value,
        (int(index), int(count)),
        RETRY.value,
        HALVING.value,
        SCORE.value,
        f"segjax ablate {shlex.join(sys.argv[1:])}",
    )
    for holder in (SHARD, ROBUSTNESS):
        if SEARCH.value and holder.present:
            raise InputError(f"--{holder.name} has no effect with --search: leave it out")
    if TIMED.value and not DRY_RUN.value:
        raise InputError("--timed is a setting of --dry_run: add --dry_run, or leave --timed out")
    if DRY_RUN.value:
        print(list_points(request, timed=TIMED.value))
    else:
        print(search(request) if SEARCH.value else ablate(request))


if __name__ == "__main__":
    cli.run(main)
