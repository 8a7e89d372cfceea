"""What is learned: a task turns network outputs and a batch into a loss, and outputs into a Segmentation."""

from segjax.tasks.base import Task
from segjax.tasks.semantic import make_semantic

TASKS = {"semantic": make_semantic}

__all__ = ["TASKS", "Task", "make_semantic"]
