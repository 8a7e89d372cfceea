"""Starts scripts as processes that are forked from one which has done the slow imports.

Otherwise as in a new process: one device, environment, folder, exit code, output.
"""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["segjax.ablation.ablate", "segjax.experiment.evaluation", "segjax.experiment.training"]
)


class Script:
    """A running `python scripts/SCRIPT.py ARGUMENTS`; its output goes to files in `folder`."""

    def __init__(self, script, *arguments, environment, folder):
        self._paths = [folder / f"{script}.{name}" for name in ("out", "err")]
        self._process = _context.Process(target=_run, args=(script, arguments, environment, self._paths))
        self._process.start()

    def is_running(self):
        return self._process.is_alive()

    def send_signal(self, number):
        if self.is_running():
            os.kill(self._process.pid, number)

    def finish(self):
        """Returns the exit code, the standard output and the standard error."""
        self._process.join(300)
        return self._process.exitcode, *(path.read_text() for path in self._paths)


def run(script, *arguments, environment, folder):
    """Returns the exit code, the standard output and the standard error of a script."""
    return Script(script, *arguments, environment=environment, folder=folder).finish()


def _run(script, arguments, environment, paths):
    import jax

    # The process that was forked has the environment of pytest.
    jax.config.update("jax_num_cpu_devices", 1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [f"scripts/{script}.py", *arguments]
    sys.path.insert(0, str(ROOT / "scripts"))
    runpy.run_path(f"scripts/{script}.py", run_name="__main__")
