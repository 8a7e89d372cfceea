"""Runs the points of sweeps of any config, and compares them in a table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from segjax.ablation.halving import Halving, describe_waiting
from segjax.ablation.measure import SCORES, Advance, Evaluating, Measure, advance, measure
from segjax.ablation.pictures import write_rows
from segjax.ablation.plan import Plan
from segjax.ablation.points import CONFIG, Point, expand, seeds_first, text_of
from segjax.ablation.robustness import add_robustness
from segjax.ablation.runs import FAILURE, SweepFolder, read_entry, run_points
from segjax.ablation.sweeps import Overrides, load_sweep, name_of, product
from segjax.ablation.table import make_report
from segjax.errors import InputError, choose
from segjax.experiment.leaks import data_digests
from segjax.experiment.results_folder import join_first
from segjax.experiment.setup import SPLITS, open_split
from segjax.report.ablation_page import make_columns, markdown, write_ablation

# Seconds between two versions of the table of a sweep that goes on.
REPORT_EVERY = 20.0
# Name of data sets that the config finds by their folder.
OWN_DATA = "folder"


@dataclasses.dataclass(frozen=True)
class AblationRequest:
    """What to sweep, and where.

    Attributes:
      sweeps: values of `--sweep`; the points are their product, and a field in several has its last value.
      workdir: folder of the sweep.
      base: config of the points that name none.
      base_name: its name, which the folder remembers.
      evaluating: the images that are evaluated.
      robustness: whether to find the worst perturbation of each row, see `add_robustness`.
      shard: `(I, N)`: only every Nth point, beginning with point I, which counts from 0.
      retry: whether points that failed run again, and those that halving stopped are compared again.
      halving: how many points there are at a rung for each that goes on, see `Halving`; None to stop none.
      score: name of the score that ranks the points, in `SCORES`.
      command: the command, for the table.
    """

    sweeps: Sequence[str]
    workdir: Path
    base: ConfigDict | None = None
    base_name: str | None = None
    evaluating: Evaluating = dataclasses.field(default_factory=Evaluating)
    robustness: bool = False
    shard: tuple[int, int] = (0, 1)
    retry: bool = False
    halving: int | None = None
    score: str = "AP 0.5"
    command: str = "segjax ablate"

    def __post_init__(self) -> None:
        choose(SCORES, "--score", self.score)
        index, count = self.shard
        if not 0 <= index < count:
            raise InputError(f"--shard={index}/{count} is not I/N with I from 0 to N - 1")
        if self.halving is not None and count > 1:
            raise InputError(
                "--halving compares the points of all shards: leave out --shard, and start the same command"
                " several times, which share the points"
            )

    def load(self) -> tuple[list[Overrides], str]:
        """Returns the overrides of all points, and the question of the sweep.

        Raises:
          InputError: if there is no such sweep, or the config has no effect.
        """
        loaded = [load_sweep(text) for text in self.sweeps]
        points = [*product(*(points for points, _ in loaded))]
        if len(loaded) > 1:  # a field of a later sweep makes points of an earlier one equal
            points = [*{text_of(point): point for point in points}.values()]
        if self.base is not None and points and all(point.get(CONFIG) is not None for point in points):
            raise InputError(
                "--config has no effect, because every point of the sweep names its config: leave it out, and"
                " set a field of all points by --sweep, such as --sweep=steps=7"
            )
        return points, next((text for _, text in loaded if text), "")

    def expand(self, sweep: Iterable[Overrides]) -> list[Point]:
        """Makes the points of a sweep, see `expand`."""
        known: dict[str, Mapping[str, str]] = {}

        def digests_of(config: ConfigDict) -> Mapping[str, str]:
            if OWN_DATA not in config.dataset.name.split("+"):
                return {}
            key = repr(config.dataset)
            if key not in known:
                known[key] = data_digests({split: open_split(config, split) for split in SPLITS})
            return known[key]

        return expand(sweep, self.base, about=self.evaluating._asdict(), digests_of=digests_of)

    def chosen(self, points: Iterable[Point]) -> list[Point]:
        """Returns the points of the shard, in the order in which they run."""
        index, count = self.shard
        return seeds_first(points)[index::count]

    def plan(self, points: Iterable[Point], advance: Advance = advance) -> Plan:
        """Returns how far each point runs.

        Raises:
          InputError: if the points cannot be halved.
        """
        if self.halving is None:
            return Plan()
        return Halving(points, SweepFolder(self.workdir), self.halving, advance)

    def open(self) -> SweepFolder:
        """Opens the folder of the sweep.

        Raises:
          InputError: if it belongs to another sweep.
        """
        sweep = SweepFolder(self.workdir)
        names = [name_of(text) for text in self.sweeps]
        # Without one, it does not matter which the command had before.
        config = {} if self.base_name is None else {"config": self.base_name}
        sweep.claim_for({"sweep": names, **config, **self.evaluating._asdict()})
        return sweep


def ablate(request: AblationRequest, measure: Measure = measure, advance: Advance = advance) -> str:
    """Runs the points of a sweep that are not done, and writes their table.

    Args:
      request: what to sweep.
      measure: measures a point.
      advance: trains a point up to a rung.

    Returns:
      The table to print, and which points wait for other processes.

    Raises:
      InputError: if a point is invalid, which is noticed before the first one runs; if the folder belongs to
        another sweep; or, after all points and the table, if points failed.
      OSError: if the disk is full.
      Interrupted: after SIGTERM or Ctrl-C; the same command resumes.
    """
    overrides, question = request.load()
    points = request.expand(overrides)
    plan = request.plan(points, advance)
    sweep = request.open()

    def report() -> str:
        made = make_report(
            points,
            sweep,
            score=request.score,
            evaluating=request.evaluating,
            title=" x ".join(request.sweeps),
            question=question,
            command=request.command,
        )
        examples = ((point.label, sweep.folder(point)) for point in points)
        write_ablation(request.workdir, made, write_rows(examples, request.workdir / "rows.png"))
        return markdown(made, make_columns(made))

    written = time.monotonic()

    def report_seldom() -> None:
        nonlocal written
        if time.monotonic() > written + REPORT_EVERY:
            report()
            written = time.monotonic()

    waiting = run_points(
        request.chosen(points),
        sweep,
        measure,
        request.evaluating,
        retry=request.retry,
        finished=report_seldom,
        plan=plan,
    )
    if request.robustness:
        add_robustness(points, sweep, request.evaluating)
    table = f"{report()}\n{request.workdir / 'index.html'}"
    if waiting:
        table = f"{table}\n{describe_waiting(waiting, sweep)}"
    if failures := failures_of(points, sweep):
        print(table)
        raise InputError(
            f"{len(failures)} of {len(points)} points failed ({join_first(failures)}): correct the cause,"
            " then give the same command with --retry"
        )
    return table


def failures_of(points: Iterable[Point], sweep: SweepFolder) -> dict[str, str]:
    """Returns why each failed point failed, by its folder."""
    failures = {}
    for point in points:
        entry = read_entry(sweep.folder(point) / FAILURE)
        if entry is not None:
            failures[point.folder] = f"{point.name}: {entry.get('reason')}"
    return failures
