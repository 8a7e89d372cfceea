"""The scripts as a user runs them: other processes, real files, exit codes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax import cli
from tests.scripts import forked

ROOT = Path(__file__).parents[2]
TINY = [
    "--config=configs/semantic.py:encoder=vgg11,dataset=synthetic",
    "--config.steps=12",
    "--config.batch_size=2",
    "--config.data.patch_size=32",
    "--config.data.margin=1.0",
    "--config.model.width=0.03125",
    "--config.optimizer.warmup=2",
    "--config.train.validate_every=8",
    "--config.train.checkpoint_every=2",
    "--config.dataset.validation=validation[:1]",
    "--config.dataset.test=test[:1]",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One device, and a compilation cache that the runs share."""
    cache = tmp_path_factory.mktemp("compiled")
    return {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "COV_"))} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }


def start(script, *arguments, environment):
    return subprocess.Popen(
        [sys.executable, f"scripts/{script}.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(code, environment):
    """What Python code prints in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def parameters(out):
    return re.search(r"parameters ([0-9a-f]{64})", out).group(1)


def test_a_run_stopped_at_any_moment_ends_with_the_same_parameters(tmp_path, environment):
    code, out, err = finish(start("train", *TINY, f"--workdir={tmp_path / 'whole'}", environment=environment))
    assert code == 0, err
    expected = parameters(out)
    killed = tmp_path / "killed"
    resumed = (*TINY, f"--workdir={killed}")
    seed = time.time_ns()
    print(f"seed {seed}")  # shown if the test fails
    moments, ended = random.Random(seed), set()
    for number, codes in ((signal.SIGKILL, {-9}), (signal.SIGTERM, {143})):
        process = forked.Script("train", *resumed, environment=environment, folder=tmp_path)
        seen = len(steps(killed))
        # Wait until it has got somewhere new, then stop it within the next moments, whatever it is doing.
        deadline = time.monotonic() + 240
        while process.is_running() and len(steps(killed)) <= seen and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(number)
        code, _, err = process.finish()
        assert code in codes | {0}, err
        assert "Traceback" not in err
        ended.add(code)
    assert ended > {0} or 0 not in ended, "each process had ended before it was stopped"
    code, out, err = forked.run("train", *resumed, environment=environment, folder=tmp_path)
    assert code == 0, err
    assert parameters(out) == expected
    assert (killed / "report" / "index.html").exists()


def steps(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}


def test_the_benchmark_times_both_directions(environment):
    options = ["--config.model.width=0.03125", "--size=32", "--batch=1", "--rounds=1"]
    config = "--config=configs/semantic.py:encoder=vgg11,dataset=synthetic"
    code, out, err = finish(start("benchmark", config, *options, environment=environment))
    assert code == 0, err
    for direction in ("inference", "training"):
        assert re.search(rf"{direction}: compiled in [\d.]+ s, \d+ MiB", out)
        assert re.search(rf"{direction}: segjax \d+ ms \([\d.]+ images/s\)", out)


def test_the_benchmark_times_methods_without_weights(environment):
    options = ["--suite=classical", "--size=64", "--rounds=1", "--largest=64", "--points=200"]
    # One thread, as the threads of scikit-learn wait for those of other tests.
    code, out, err = finish(start("benchmark", *options, environment=environment | {"OMP_NUM_THREADS": "1"}))
    assert code == 0, err
    for name in ("naive", "radius", "mean_shift", "kmeans", "watershed"):
        assert re.search(rf"{name} +[\d.]+ s  reached", out)
        assert re.search(rf"{name} +64: [\d.]+ \(\d+\)", out)
    assert out.count("ratio") == 3


NEEDS = {
    "benchmark": (),
    "ablate": ("--config=configs/classical.py", "--workdir=nowhere"),
    "train": ("--config=configs/synthetic.py", "--workdir=nowhere"),
    "evaluate": (),
    "export": (),
    "predict": ("--workdir=nowhere", "--images=nowhere", "--out=nowhere"),
}


@pytest.mark.parametrize(
    ("script", "arguments", "messages"),
    [
        ("train", ("--config.stepz=3",), ["no such field", "stepz"]),
        ("train", ("--config.steps=many",), ["steps", "many"]),
        ("train", ("--config.data.patch_size=1.5",), ["patch_size"]),
        ("train", ("--config=configs/nothing.py",), ["configs/nothing.py"]),
        ("train", ("--config=configs/semantic.py:encoder=vgg12",), ["vgg12", "vgg16", "resnet50"]),
        ("train", ("--config=configs/semantic.py:size=3",), ["size", "encoder", "decoder"]),
        ("train", ("--config.dataset.train=train[:0]",), ["train[:0]"]),
        ("train", ("--config.dataset.name=nothing",), ["nothing", "synthetic", "mnfinder"]),
        ("train", ("--config.data.patch_size=4096",), ["4096", "smaller", "patch_size"]),
        ("train", ("--config.batch_size=0",), ["batch_size"]),
        (
            "train",
            ("--config.augment.policy=('flip','gama')",),
            ["augment.policy", "gama", "gamma", "cutout"],
        ),
        ("train", ("--config.augment.noise=-0.5",), ["augment.noise", "-0.5"]),
        ("train", ("extra",), ["extra", "--name=value"]),
        ("train", ("--config=configs/classical.py",), ["classical methods", "segjax evaluate"]),
        ("train", ("--replay=3", "--track=wandb"), ["--track has no effect with --replay: leave it out"]),
        ("train", ("--replay=3", "--profile=2"), ["--profile has no effect with --replay"]),
        ("train", ("--replay=3", "--accept_changes"), ["--accept_changes has no effect with --replay"]),
        ("benchmark", (), ["--config", "--suite=classical"]),
        ("ablate", ("--sweep=nothing",), ["--sweep=nothing", "encoders"]),
        ("ablate", ("--sweep=width:dataset=synthetic", "--dry_run"), ["--config has no effect", "=steps=7"]),
        ("ablate", ("--sweep=seed=1", "--shard=2/2"), ["--shard=2/2", "from 0"]),
        ("ablate", ("--sweep=seed=1", "--halving=3"), ["no point of the sweep is trained", "leave it out"]),
        ("evaluate", (), ["--workdir", "--config", "--truth"]),
        ("evaluate", ("--model=nuclei", "--out=x"), ["--model needs --config", "--model=nuclei --config=c"]),
        ("evaluate", ("--truth=nowhere", "--prediction=nowhere"), ["--out=FOLDER", "--json=FILE"]),
        ("evaluate", ("nowhere",), ["unexpected argument", "--compare"]),
        ("evaluate", ("--workdir=nowhere",), ["nowhere", "segjax train"]),
        ("evaluate", ("--workdir=a", "--prediction=b"), ["--prediction has no effect with --workdir"]),
        (
            "evaluate",
            ("--truth=a", "--prediction=b", "--out=c", "--fit"),
            ["--fit has no effect with --truth"],
        ),
        (
            "evaluate",
            ("a", "b", "--compare", "--out=c", "--images=d"),
            ["--images has no effect with --comp"],
        ),
        ("evaluate", ("--config=configs/classical.py:method=magic",), ["magic", "watershed"]),
        ("predict", (), ["nowhere", "segjax train"]),
        ("predict", ("--channels=0,b",), ["--channels=0,b", "0,2,1"]),
        ("predict", ("--axis=Z",), ["--axis=Z", "Z=12"]),
        ("predict", ("--images=",), ["--images= is empty"]),
        ("export", ("--out=a.pb",), [".safetensors", ".stablehlo", ".onnx", ".html"]),
    ],
)
def test_bad_input_ends_in_one_sentence(script, arguments, messages, environment, tmp_path):
    given = [argument.replace("nowhere", str(tmp_path / "nowhere")) for argument in NEEDS[script] + arguments]
    code, _, err = forked.run(script, *given, environment=environment, folder=tmp_path)
    assert code == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for message in messages:
        assert message in last


SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if "cli.run(main" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_helps(script, environment, tmp_path):
    code, out, _ = forked.run(script, "--help", environment=environment, folder=tmp_path)
    assert code in (0, 1)  # absl's own is 1
    assert re.search(rf"segjax {script.partition('_')[0]} (\S+ )?--|python scripts/{script}\.py", out)
    for flag in re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "scripts" / f"{script}.py").read_text()):
        assert f"{flag}:" in out


def test_the_command_segjax_runs_the_scripts(environment, tmp_path):
    command = [sys.executable, "-m", "segjax"]

    def run(*arguments):
        return finish(
            subprocess.Popen(
                [*command, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    code, out, err = run("train", "--help")
    assert "--workdir:" in out
    assert "--config:" in out
    # Configs by name, from any folder.
    for arguments in (("--config=synthetic",), ("--config", "synthetic:dataset=synthetic")):
        code, out, err = run("evaluate", *arguments, "--out=nowhere")
        assert code == 2, err
        assert err.strip().splitlines()[-1].startswith("error: ")
        assert "--config names a network, which has to be trained first" in err
    code, out, err = run("train", "--config=nothing", "--workdir=nowhere")
    assert code == 2
    assert "nothing" in err
    assert err.strip().endswith("one of classical, nuclei, quickstart, rcnn, semantic, synthetic")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("datasets", "--config=datasets cannot be loaded ("),
        ("configs/datasets.py", "the file of --config has no function get_config(variant)"),
    ],
)
def test_a_module_without_a_config_is_none(environment, tmp_path, config, message):
    arguments = (f"--config={config}", f"--workdir={tmp_path / 'run'}")
    code, _, err = forked.run("train", *arguments, environment=environment, folder=tmp_path)
    assert code == 2, err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert last.endswith("one of classical, nuclei, quickstart, rcnn, semantic, synthetic")


def test_the_runs_of_an_ensemble_are_no_predictions(environment, tmp_path):
    for seed in (0, 1):
        (tmp_path / f"both/seed_{seed}").mkdir(parents=True)
        (tmp_path / f"both/seed_{seed}/config.json").write_text("{}")
    arguments = (str(tmp_path / "both"), "--compare", f"--out={tmp_path / 'out'}")
    code, _, err = forked.run("evaluate", *arguments, environment=environment, folder=tmp_path)
    assert code == 2, err
    assert "both contains the 2 runs of an ensemble: give runs, such as" in err
    assert err.strip().endswith("both/seed_0")


def test_the_first_of_several_processes_prints(environment):
    code = (
        "import jax, sys\n"
        "from types import SimpleNamespace\n"
        "from absl import flags\n"
        "from segjax.experiment import evaluation, training\n"
        "from segjax.scripts import train\n"
        "state = SimpleNamespace(eval_params={'kernel': jax.numpy.ones(2)}, step=3)\n"
        "result = SimpleNamespace(state=state, seconds=1.0, stopped_early=True)\n"
        "training.train_seeds = lambda *args, **options: dict.fromkeys(('seed_0', 'seed_1'), result)\n"
        "evaluation.evaluate_workdir = lambda *args, **options: 'table'\n"
        "flags.FLAGS(['train', '--config=configs/synthetic.py', '--workdir=nowhere'])\n"
        "for index in (0, 1):\n"
        "    jax.process_index = lambda: index\n"
        "    train.train_and_evaluate()\n"
        "    print('end of', index)\n"
    )
    first, second = printed(code, environment).split("end of 0\n")
    assert first.count("trained in 1 s; parameters ") == first.count("stopped early after step 3") == 2
    assert "seed_1:" in first
    assert second == "end of 1\n"


def test_a_user_without_a_home_has_no_cache(monkeypatch, tmp_path):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.configure_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "kept"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.configure_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path / "segjax/compiled/jaxlib-"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    cli.configure_jax()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_a_reader_that_leaves_causes_no_traceback(environment):
    """As in `segjax train --help | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "segjax", "train", "--help"],
        cwd=ROOT,
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_importing_segjax_stays_light(environment):
    code = "import sys, segjax; print(len([m for m in sys.modules if m.split('.')[0] in ('jax', 'numpy')]))"
    assert printed(code, environment).strip() == "0"


def test_prediction_imports_no_library_that_it_does_not_use(environment):
    code = (
        "import sys, segjax.scripts.predict\n"
        "from segjax.experiment import export_formats, prediction, prediction_methods, series_prediction\n"
        "slow = ('orbax', 'sklearn', 'tensorflow_datasets', 'scipy.signal', 'scipy.stats')\n"
        "print(*(name for name in slow if name in sys.modules))"
    )
    assert printed(code, environment).strip() == ""
