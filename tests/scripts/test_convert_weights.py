import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from segjax.models.weights.file import load
from tests.models.weights.test_encoders import parameters, torch_vgg11

ROOT = Path(__file__).parents[2]


def convert(*flags):
    command = [sys.executable, "scripts/convert_weights.py", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_converts_a_file(tmp_path):
    save_file(torch_vgg11(parameters("vgg11")), tmp_path / "w.safetensors")
    out = tmp_path / "out.safetensors"
    flags = (f"--source={tmp_path / 'w.safetensors'}", "--architecture=vgg11", f"--out={out}")
    done = convert(*flags, "--preprocessing=inception")
    assert done.returncode == 0, done.stderr
    assert "9,220,480 parameters of vgg11, for norm=none" in done.stdout
    assert load(out).preprocessing.mean == (0.5, 0.5, 0.5)


def test_an_error_is_one_sentence_and_exit_code_2(tmp_path):
    save_file({"weight": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    out = tmp_path / "out.safetensors"
    done = convert(f"--source={tmp_path / 'w.safetensors'}", "--architecture=vgg11", f"--out={out}")
    assert done.returncode == 2
    assert "not a vgg11: missing layer features.0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_the_epsilon_of_a_detector_is_refused_for_an_encoder(tmp_path):
    out = tmp_path / "out.safetensors"
    done = convert("--source=nowhere", "--architecture=vgg11", f"--out={out}", "--norm_epsilon=1e-5")
    assert done.returncode == 2
    assert "--norm_epsilon is for fasterrcnn_resnet50_fpn" in done.stderr
    assert "--architecture=vgg11 is none of them: leave it out" in done.stderr
