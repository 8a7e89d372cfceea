"""Settings of the training loop; `segjax predict` reads them, and imports this file instead of the loop."""

from __future__ import annotations

import dataclasses

from segjax.settings import Count, NonNegativeInt, Settings


@dataclasses.dataclass(frozen=True)
class LoopConfig(Settings):
    """Settings of the training loop that a config has, in the section `train`.

    Attributes:
      steps: number of steps of the run.
      log_every: steps between lines of the log.
      checkpoint_every: steps between checkpoints; 0 for checkpoints after validations and at the end only.
      validate_every: steps between validations; 0 for none. The last step is always validated.
      patience: number of validations without improvement after which the run stops; 0 for never.
      max_consecutive_skips: number of consecutive skipped steps after which the run has diverged.
      rollback: how often a run that has diverged goes back to its last good checkpoint, see `with_rollbacks`.
    """

    steps: Count
    log_every: Count = 20
    checkpoint_every: NonNegativeInt = 500
    validate_every: NonNegativeInt = 500
    patience: NonNegativeInt = 0
    max_consecutive_skips: Count = 20
    rollback: NonNegativeInt = 0


@dataclasses.dataclass(frozen=True)
class FitConfig(LoopConfig):
    """Settings of `fit`: those of a config, and those of one start of its training.

    Attributes:
      pause: step before `steps` after which the run pauses; the next start continues. If the step is one of
        the regular validations, the result is the same to the last bit as without a pause. 0 for none.
      profile: number of steps of a trace for TensorBoard, in `profile/`; 0 for none.
      track: the tracker that the log is also written to, see `TRACKERS`; "" for none.
    """

    pause: NonNegativeInt = 0
    profile: NonNegativeInt = 0
    track: str = ""
