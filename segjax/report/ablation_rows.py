"""The rows of the table of an ablation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from segjax.evaluation.statistics import is_better


@dataclasses.dataclass(frozen=True)
class RowScore:
    """A score of a row.

    Attributes:
      mean: mean over the seeds of the score of all images, pooled.
      std: standard deviation over the seeds; None with one seed.
      interval: bootstrap interval of 95 % over images, or groups of images.
      difference: mean minus that of the baseline; None for the baseline and for other images.
      difference_interval: bootstrap interval of 95 % of the difference.
      p_value: of the paired Wilcoxon signed-rank test.
      detectable: smallest true difference that such a comparison detects with a probability of 80 %.
    """

    mean: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p_value: float | None = None
    detectable: float | None = None

    @property
    def is_better(self) -> bool:
        """Whether it is better than the baseline, as displayed, and the interval excludes 0."""
        return is_better(self.difference or 0, self.difference_interval)


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a row costs, means over its seeds; None where it is not known.

    Attributes:
      seconds: duration of a point.
      train_seconds: duration of the training.
      seconds_per_image: of the median image.
      parameters: number of parameters of the network.
      flops: operations of a training step, for one image.
      peak_bytes: peak of the memory of the process above that at the start of the point.
      step_bytes: memory of the compiled training step, per device.
    """

    seconds: float | None = None
    train_seconds: float | None = None
    seconds_per_image: float | None = None
    parameters: float | None = None
    flops: float | None = None
    peak_bytes: float | None = None
    step_bytes: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: a point of the sweep with all its seeds.

    Attributes:
      label: what distinguishes it.
      fields: value of each field that varies.
      status: "done", or what is missing and why.
      num_done: number of finished seeds.
      scores: scores of the finished seeds, by name.
      rank: 1 for the best, None without a score.
      costs: what it costs.
      curve: `(step, loss)` of the first seed.
      worst_perturbation: name of the perturbation with the lowest F1; "" if images were not perturbed.
      is_stopped: whether seeds of it were stopped early: it has no rank and is compared with no row.
      is_present: whether the sweep still has it; charts leave out rows that it no longer has.
      command: the command of its first seed, without a folder for the results; "" if there is none.
    """

    label: str
    fields: Mapping[str, str]
    status: str
    num_done: int = 0
    scores: Mapping[str, RowScore] = dataclasses.field(default_factory=dict)
    rank: int | None = None
    costs: Costs = dataclasses.field(default_factory=Costs)
    curve: Sequence[tuple[float, float]] = ()
    worst_perturbation: str = ""
    is_stopped: bool = False
    is_present: bool = True
    command: str = ""


@dataclasses.dataclass(frozen=True)
class AblationReport:
    """The results of a sweep.

    Attributes:
      title: name of the sweep.
      question: what it is for; "" if that is not stated.
      rows: its rows, the first of which is the baseline.
      score: name of the score that ranks the rows.
      images: what was evaluated, such as "15 images of the test split in 6 groups".
      command: the command that makes the table.
      environment: hardware and versions of each finished point, without repetition.
    """

    title: str
    question: str
    rows: Sequence[Row]
    score: str
    images: str
    command: str
    environment: Sequence[str]
