"""Trains a network, evaluates it on the test split against the reference, and writes a report.

    segjax train --config=quickstart --workdir=runs/quickstart

Training can be stopped at any time; the same command resumes it. After SIGTERM the exit code is 143, after
Ctrl-C 130. Flags such as --config.steps=1000 override any field of the config. --config.ensemble=4 trains
four seeds together, each in a folder WORKDIR/seed_N, which is a run as any other. On several hosts, start the
same command on each; scripts/README.md has recipes. The exit code is 75 if one of the processes is lost.
"""

from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
connected_processes = cli.define_processes()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: its config, checkpoints, logs and report."
)
RESTARTS = flags.DEFINE_integer(
    "restarts", 0, "How often training starts again after a crash.", lower_bound=0
)
PROFILE = flags.DEFINE_integer(
    "profile", 0, "Number of steps of a trace for TensorBoard or Perfetto, in WORKDIR/profile.", lower_bound=0
)
TRACK = flags.DEFINE_enum(
    "track",
    None,
    ["trackio", "wandb", "mlflow"],
    "Tracker that the curves are also written to, offline by default; see scripts/README.md.",
)
ACCEPT_CHANGES = flags.DEFINE_bool(
    "accept_changes",
    False,
    "Whether to resume although the config or the data have changed in a way that affects what is learned;"
    " log.jsonl names the changes and the step from which they hold.",
)
REPLAY = flags.DEFINE_integer(
    "replay",
    None,
    "A step to repeat alone, from the checkpoint before it, to find which image and which operation make its"
    " gradient infinite or NaN; nothing is trained.",
    lower_bound=1,
)
flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    """Connects the processes if there are several, and trains; again after a crash."""
    if "methods" in (CONFIG.value or ()):
        raise InputError("--config has classical methods, which are not trained: give it to segjax evaluate")
    for holder in (ACCEPT_CHANGES, PROFILE, TRACK):
        if REPLAY.value is not None and holder.present:
            raise InputError(f"--{holder.name} has no effect with --replay: leave it out")
    with connected_processes(restarts=RESTARTS.value):
        train_and_evaluate()


def train_and_evaluate() -> None:
    """Trains the network, evaluates it and writes the report."""
    import jax

    from segjax.experiment.evaluation import evaluate_workdir
    from segjax.experiment.training import train_seeds
    from segjax.train import profiling
    from segjax.train.state import fingerprint

    workdir = Path(WORKDIR.value or "")
    if REPLAY.value is not None:
        from segjax.experiment.replaying import replay

        print(replay(CONFIG.value, workdir, REPLAY.value))
        return
    results = train_seeds(
        CONFIG.value,
        workdir,
        accept_changes=ACCEPT_CHANGES.value,
        profile=PROFILE.value,
        track=TRACK.value or "",
    )
    if PROFILE.value and jax.process_index() == 0:
        folder = workdir / profiling.FOLDER
        print(f"{folder} has the trace" if folder.exists() else "the run ended before the trace began")
    for folder, result in results.items():
        if len(results) > 1:
            cli.print_once(f"{folder}:")
        if result.stopped_early:
            cli.print_once(f"stopped early after step {int(result.state.step)}: validation did not improve")
        # Parameters may be split over the processes, which all compute the digest.
        digest = fingerprint(result.state.eval_params)
        cli.print_once(f"trained in {result.seconds:.0f} s; parameters {digest}")
        cli.print_once(evaluate_workdir(folder, "test", seconds=result.seconds))


if __name__ == "__main__":
    cli.run(main)
