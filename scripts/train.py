"""Trains a network, evaluates it on the test split against the reference, and writes a report.

    segjax train --config=quickstart --workdir=runs/quickstart

Training can be stopped at any time; the same command resumes it. After SIGTERM the exit code is 143, after
Ctrl-C 130. Flags such as --config.steps=1000 override any field of the config. On several hosts, start the
same command with --distributed on each.
"""

from pathlib import Path

from absl import flags

from segjax import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: its config, checkpoints, logs and report."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Whether to train on several hosts, one process on each."
)
ACCEPT_CHANGES = flags.DEFINE_bool(
    "accept_changes",
    False,
    "Whether a run may go on with a config or data that change what it learns; log.jsonl names the changes"
    " and the step from which they hold.",
)
flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    """Trains the network, evaluates it and writes the report."""
    from segjax.train.interruption import leave_at_once

    if not DISTRIBUTED.value:  # JAX catches the signals of several processes
        leave_at_once()
    import jax

    if DISTRIBUTED.value:
        jax.distributed.initialize()
    from segjax.experiment.evaluation import evaluate_workdir
    from segjax.experiment.training import train
    from segjax.train.state import fingerprint

    workdir = Path(WORKDIR.value or "")
    result = train(CONFIG.value, workdir, accept_changes=ACCEPT_CHANGES.value)
    if result.stopped_early:
        print(f"stopped early after step {int(result.state.step)}: validation did not improve")
    print(f"trained in {result.seconds:.0f} s; parameters {fingerprint(result.state.eval_params)}")
    if jax.process_count() > 1:
        print(f"evaluate on one host: segjax evaluate --workdir={workdir}")
    else:
        print(evaluate_workdir(workdir, "test", seconds=result.seconds))


if __name__ == "__main__":
    cli.run(main)
