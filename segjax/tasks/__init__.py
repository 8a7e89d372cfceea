"""What is learned: a task turns network outputs and a batch into a loss, and outputs into a Segmentation."""

from collections.abc import Callable

from segjax.tasks.base import Task
from segjax.tasks.detection import make_instance
from segjax.tasks.semantic import make_semantic

TASKS: dict[str, Callable[..., Task]] = {"semantic": make_semantic, "instance": make_instance}

__all__ = ["TASKS", "Task", "make_instance", "make_semantic"]
