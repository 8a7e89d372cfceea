"""Reports the steps of a run: progress bar, log, skipped steps, and whether the run has diverged."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
from tqdm import tqdm

from segjax.errors import InputError
from segjax.train.cost import Cost
from segjax.train.log import Log, NoLog
from segjax.train.processes import exchange
from segjax.train.profiling import Observer
from segjax.train.resume import Start
from segjax.typing import Array

_log = logging.getLogger(__name__)
# Key of the metrics: whether all parameters are finite after a step.
FINITE = "parameters_finite"
# Maximum number of images that an error names.
NAMED = 8


class Diverged(InputError):  # noqa: N818 - a state of the run
    """The gradient stayed non-finite for many steps, or the parameters are not finite.

    Args:
      reason: what happened.
      advice: what to do.

    Attributes:
      reason: what happened, without the advice, which does not hold for a run that goes back.
      step: the step at which that was noticed.
      last_applied: the last step that changed the parameters.
      rollbacks: how often the run went back to an earlier checkpoint before.
    """

    def __init__(self, reason: str, advice: str, *, step: int, last_applied: int, rollbacks: int) -> None:
        super().__init__(f"{reason}: {advice}")
        self.reason = reason
        self.step = step
        self.last_applied = last_applied
        self.rollbacks = rollbacks


class ReportConfig(Protocol):
    """The fields of `FitConfig` that a `Reporter` reads."""

    @property
    def steps(self) -> int:
        """Number of steps of the run."""

    @property
    def log_every(self) -> int:
        """Steps between lines of the log."""

    @property
    def max_consecutive_skips(self) -> int:
        """Number of consecutive skipped steps after which a run has diverged."""


class Reporter:
    """Progress bar and log; `previous` is a step whose metrics may still be computed by the device."""

    def __init__(
        self,
        config: ReportConfig,
        log: Log | NoLog,
        start: Start,
        image_names: Callable[[int], Sequence[str]] | None,
        observer: Observer,
    ) -> None:
        self.previous: tuple[int, Mapping[str, Array], int] | None = None
        self._cost: Cost | None = None
        self._observer = observer
        self._config = config
        self._rollbacks = start.rollbacks
        self._suspects: Counter[str] = Counter()
        self._log = log
        self._image_names = image_names
        self._bar = tqdm(
            total=config.steps,
            initial=int(start.state.step),
            unit="step",
            desc="train",
            disable=jax.process_index() > 0,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._log.close()

    def note_cost(self, cost: Cost, first: int) -> None:
        """Writes the cost of the compiled step into the log, and its utilisation from now on."""
        self._cost = cost
        self._log.note_new(first, "compiled", cost.as_dict())

    def report_previous(self) -> None:
        """Reports `previous`, if it is not reported yet.

        Raises:
          Diverged: if too many consecutive steps were skipped, or the parameters are not finite.
        """
        if self.previous is None:
            return
        number, metrics, size = self.previous
        self.previous = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        is_finite = values.pop(FINITE, 1.0) > 0
        self._bar.update()
        steps_per_second = self._bar.format_dict["rate"] or 0
        rate = steps_per_second * size
        self._bar.set_postfix_str(f"loss {values['loss']:.4f}, {rate:.1f} images/s", refresh=False)
        skipped = values["consecutive_skips"] > 0
        if number % self._config.log_every == 0 or number == self._config.steps or skipped:
            speed = {"images_per_second": rate, "data_wait": self._observer.data_wait()}
            utilisation = self._cost and self._cost.utilisation(steps_per_second)
            if utilisation is not None:
                speed["model_flops_utilisation"] = utilisation
            self._log.write(number, {"train": values, **speed})
        if not is_finite:
            raise Diverged(
                f"the parameters are no longer finite after step {number}{self._images_of(number)[1]}",
                "lower config.optimizer.learning_rate",
                step=number,
                last_applied=number,
                rollbacks=self._rollbacks,
            )
        if skipped:
            self._report_skip(number, int(values["consecutive_skips"]))
        else:
            self._suspects.clear()

    def _images_of(self, number: int) -> tuple[list[str], str]:
        """Returns the names of the images of a step, of all processes, and the same for a message."""
        own = list(self._image_names(number - 1)) if self._image_names is not None else []
        all_names = exchange(json.dumps(own), f"the images of step {number}")
        names = list(itertools.chain.from_iterable(json.loads(part) for part in all_names))
        return names, f": images {', '.join(dict.fromkeys(names))}" if names else ""

    def _report_skip(self, number: int, consecutive: int) -> None:
        names, images = self._images_of(number)
        _log.warning("Step %d is skipped, as its gradient is not finite%s", number, images)
        self._log.note(number, {"skipped": {"consecutive": consecutive, "images": names}})
        self._suspects.update(set(names))
        if consecutive >= self._config.max_consecutive_skips:
            # An image that is in each of these steps is the likely cause.
            often = [
                f"{name} ({count} times)" if count > 1 else name
                for name, count in self._suspects.most_common(NAMED)
            ]
            more = len(self._suspects) - len(often)
            images = f", with the images {', '.join(often)}" if often else ""
            raise Diverged(
                f"the gradient was not finite {consecutive} times in a row, up to step {number}{images}"
                f"{f' and {more} others' if more else ''}",
                f"--replay={number} says where and in which image; lower config.optimizer.learning_rate or"
                " config.optimizer.clip, or look at these images",
                step=number,
                last_applied=number - consecutive,
                rollbacks=self._rollbacks,
            )
