import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from segjax.errors import InputError
from segjax.train import trackers
from segjax.train.log import Log, read_log


class Server:
    """Fake modules of the three trackers; `points` has what was written, by the id of the run."""

    def __init__(self, monkeypatch):
        self.points, self.configs, self.closed = {}, {}, []
        for name, content in (
            ("trackio", {"init": self.trackio}),
            ("wandb", {"init": self.wandb, "Settings": SimpleNamespace}),
            ("mlflow", {"MlflowClient": lambda uri: self}),
            ("mlflow.entities", {"Metric": lambda *values: values}),
        ):
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)

    def start(self, run_id, config, resume, log):
        assert resume == "allow"
        self.points.setdefault(run_id, [])
        self.configs[run_id] = config
        return SimpleNamespace(
            log=log, finish=lambda: self.closed.append(run_id), define_metric=lambda *_, step_metric: None
        )

    def trackio(self, *, project, name, config, resume, **_):
        return self.start(name, config, resume, lambda values, step: self.add(name, step, values))

    def wandb(self, *, project, id, name, config, dir, resume, mode, settings):  # noqa: A002
        assert mode == "offline"
        return self.start(
            id, config, resume, lambda values: self.add(id, values["step"], dict([*values.items()][1:]))
        )

    def add(self, run_id, step, values):
        self.points[run_id].append((step, values))

    # The client of mlflow.
    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1") if self.points else None

    def create_experiment(self, name):
        return "1"

    def create_run(self, experiment, run_name):
        self.points[run_name] = []
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_param(self, run_id, name, value):
        self.configs.setdefault(run_id, {})[name] = value

    def update_run(self, run_id, status):
        assert (run_id in self.points, status) == (True, "RUNNING")

    def log_batch(self, run_id, metrics):
        (step,) = {step for _, _, _, step in metrics}
        self.add(run_id, step, {name: value for name, value, _, _ in metrics})

    def set_terminated(self, run_id):
        self.closed.append(run_id)


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_resumed_run_continues_its_curve(monkeypatch, tmp_path, name):
    server = Server(monkeypatch)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "config.json").write_text('{"steps": 4}')
        for start in (0, 1):
            log = Log(folder, start=start, track=name)
            log.write(start + 1, {"train": {"loss": 0.5 - start / 4, "norm": float("nan")}})
            log.close()
    expected = [(1, {"train/loss": 0.5}), (2, {"train/loss": 0.25})]
    assert list(server.points.values()) == [expected] * 2
    assert list(server.configs.values()) == [{"steps": 4}] * 2
    first, second = server.points
    assert server.closed == [first, first, second, second]
    assert json.loads((tmp_path / "b" / trackers.FILE).read_text()) == {name: second}


@pytest.mark.parametrize("when", ["open", "write", "close"])
def test_an_error_of_a_tracker_does_not_end_the_training(monkeypatch, tmp_path, caplog, when):
    class Failing:
        id, written = "1", 0

        def __init__(self, *_):
            self.fail("open")

        def fail(self, name):
            if name == when:
                raise RuntimeError("no connection\nto the server")

        def write(self, step, values):
            Failing.written += 1
            self.fail("write")

        def close(self):
            self.fail("close")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Failing)
    log = Log(tmp_path, start=0, track="wandb")
    for step in (1, 2, 3):
        log.write(step, {"loss": 0.5})
    log.close()
    assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    assert caplog.text.count("wandb failed (no connection): training goes on without it") == 1
    # A tracker that has failed is not used again.
    assert Failing.written == {"open": 0, "write": 1, "close": 3}[when]


def test_no_tracker_is_used_by_default(monkeypatch, tmp_path):
    server = Server(monkeypatch)
    log = Log(tmp_path, start=0)
    log.write(1, {"loss": 0.5})
    log.close()
    assert not server.points
    assert not (tmp_path / trackers.FILE).exists()


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'--track=mlflow needs a package: pip install "segjax\[mlflow\]"'):
        trackers.check_tracker("mlflow")
