"""Several processes train one network, and one of them dies, is damaged, refuses or is stopped."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.launch import FIRST_PORT, NUM_PORTS
from segjax.train.log import read_log
from tests.train import toy
from tests.train.test_checkpoint import damage_file

ROOT = Path(__file__).parents[2]
LOST = "another process of this run ended or cannot be reached"


def variables_of_jax(index, count, port):
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": f"{count}",
        "JAX_PROCESS_ID": f"{index}",
    }


def slurm(index, count, port):
    return {
        "SLURM_JOB_ID": f"{port - FIRST_PORT}",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": f"{count}",
        "SLURM_STEP_TASKS_PER_NODE": f"{count}",
        "SLURM_PROCID": f"{index}",
        "SLURM_LOCALID": f"{index}",
    }


def start(folder, count, *arguments, launcher=variables_of_jax):
    """Starts the processes of a run."""
    with socket.socket() as free:
        # One of the ports that are used for SLURM.
        free.bind(("127.0.0.1", random.randrange(FIRST_PORT, FIRST_PORT + NUM_PORTS)))
        port = free.getsockname()[1]
    common = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "COV_"))}
    common |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    folder.mkdir(exist_ok=True)
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.situations.worker", f"--folder={folder}", *arguments],
            cwd=ROOT,
            env=common | (launcher(index, count, port) if count > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def finish(processes):
    """Returns exit codes, outputs and errors."""
    results = [process.communicate(timeout=120) for process in processes]
    codes = [process.returncode for process in processes]
    return codes, [out for out, _ in results], [error for _, error in results]


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def parameters(outputs):
    return {re.search(r"parameters ([0-9a-f]{64})", out).group(1) for out in outputs}


def starts(output):
    return [int(step) for step in re.findall(r"starts at step (\d+)", output)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder and the parameters of a run of two processes, started as by srun, that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    codes, outputs, errors = finish(start(folder, 2, launcher=slurm))
    assert codes == [0, 0], errors
    (both,) = parameters(outputs)
    return folder, both


def test_a_killed_process_ends_the_others_which_all_start_again(tmp_path, undisturbed):
    codes, outputs, errors = finish(start(tmp_path / "run", 2, "--die=1,4"))
    assert codes == [75, 137], errors
    assert LOST in errors[0]
    assert "Traceback" not in errors[0]
    shutil.rmtree(tmp_path / "run")
    codes, outputs, errors = finish(start(tmp_path / "run", 2, "--die=1,4", "--restarts=2"))
    assert codes == [0, 0], errors
    assert "training ended with exit code 137; it starts again in 1 s, restart 1 of 2" in errors[1]
    assert parameters(outputs) == {undisturbed[1]}
    assert starts(outputs[0])[0] == 0
    assert starts(outputs[0])[-1] == starts(outputs[1])[-1] in (2, 4)


def test_one_process_starts_again_too_and_ends_with_the_process_that_started_it(tmp_path):
    codes, outputs, errors = finish(start(tmp_path, 1, "--die=0,4", "--restarts=1"))
    assert codes == [0], errors
    assert "restart 1 of 1" in errors[0]
    assert starts(outputs[0])[1] in (2, 4)
    (process,) = start(tmp_path, 1, "--restarts=1", "--steps=600", "--wait=8")
    wait_for(tmp_path / "waiting0")
    process.kill()
    # The child holds the other ends of the pipes.
    _, (output,), (error,) = finish([process])
    assert starts(output) == [6]
    assert re.search(r"stopped after step \d+ of 600", error)


def test_all_resume_from_the_step_that_all_can_read(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0] / "checkpoints", tmp_path / "checkpoints0")
    shutil.copytree(undisturbed[0] / "checkpoints", tmp_path / "checkpoints1")
    damage_file(tmp_path / "checkpoints1" / "6", "truncate")
    # Nothing is left to save, which processes with disks of their own cannot.
    codes, outputs, errors = finish(start(tmp_path, 2, "--steps=4"))
    assert codes == [0, 0], errors
    assert [starts(out) for out in outputs] == [[4], [4]]
    assert "checkpoints0/6 is damaged or unreadable: process 1: " in errors[0]
    assert len(parameters(outputs)) == 1


def test_a_process_that_cannot_go_on_ends_all_with_its_sentence(tmp_path):
    codes, _, errors = finish(start(tmp_path, 2, "--refuse=1"))
    assert codes == [2, 2]
    assert "error: process 1: there is no image to train on" in errors[0]
    assert "error: there is no image to train on" in errors[1]


def test_sigterm_to_one_process_stops_all_after_the_same_step(tmp_path, undisturbed):
    processes = start(tmp_path, 2, "--wait=3", "--steps=600")
    wait_for(tmp_path / "waiting1")
    processes[1].send_signal(signal.SIGTERM)
    codes, _, errors = finish(processes)
    assert codes == [143, 143], errors
    (step,) = {re.search(r"stopped after step (\d+) of 600", error).group(1) for error in errors}
    assert (tmp_path / "checkpoints" / step).exists()


def test_processes_validate_a_part_of_the_images_each_and_stop_between_the_same_images(tmp_path):
    processes = start(tmp_path, 2, "--fsdp=2", "--images=80", "--wait_image=45")
    wait_for(tmp_path / "waiting0")
    processes[0].send_signal(signal.SIGTERM)
    codes, outputs, errors = finish(processes)
    assert codes == [143, 143], errors
    for error in errors:
        assert "stopped; the same command resumes from the last checkpoint" in error
    # Each validated 40 images after step 4, and was stopped in the validation after step 6.
    (count,) = {int(re.search(r"validated (\d+) images", out).group(1)) for out in outputs}
    assert 45 <= count < 80
    logged = [entry for entry in read_log(tmp_path / "log.jsonl") if "validation/score" in entry]
    assert [entry["step"] for entry in logged] == [4]
    # All images on one device, with the parameters that were split over two processes.
    _, state, _ = toy.setup()
    params, step = CheckpointReader(tmp_path / "checkpoints").restore_params(state.eval_params)
    assert step == 4
    alone = toy.validation(80)(params, lambda: None)
    assert 0 < alone["ap"]["0.5"] < 1
    assert logged[0]["validation/score"] == alone["score"]
    assert logged[0]["validation/aji"] == alone["aji"]


def test_processes_that_share_an_image_learn_what_one_learns(tmp_path, undisturbed):
    codes, outputs, errors = finish(start(tmp_path, 2, "--space=2"))
    assert codes == [0, 0], errors
    assert len(parameters(outputs)) == 1
    shutil.copytree(undisturbed[0], tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "6")
    assert losses(tmp_path) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    # One process goes on where two have stopped.
    codes, outputs, errors = finish(start(tmp_path / "one", 1))
    assert codes == [0], errors
    assert starts(outputs[0]) == [4]
    assert losses(tmp_path) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def losses(folder):
    entries = read_log(folder / "log.jsonl")
    return {entry["step"]: entry["train/loss"] for entry in entries if "train/loss" in entry}
