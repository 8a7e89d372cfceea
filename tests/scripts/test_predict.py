"""Settings of `segjax predict` that would have no effect."""

import pytest

from tests.scripts import forked
from tests.scripts.test_scripts import environment  # noqa: F401 - a fixture
from tests.situations.conftest import write_cells


@pytest.fixture
def arguments(tmp_path):
    write_cells(tmp_path / "images", 2)
    method = "--config=classical:method=watershed"
    return [method, f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'out'}"]


def run(arguments, environment, tmp_path):  # noqa: F811
    return forked.run("predict", *arguments, environment=environment, folder=tmp_path)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (["--neighbours=40px", "--export=labels"], "--neighbours is a column of tables: add csv or parquet"),
        (["--workers=4", "--frames"], "--workers has no effect with --frames: leave it out"),
        (["--workers=2", "--stack"], "--workers has no effect with --stack: leave it out"),
    ],
)
def test_settings_without_effect_are_refused(arguments, added, message, environment, tmp_path):  # noqa: F811
    code, _, err = run([*arguments, *added], environment, tmp_path)
    assert code == 2, err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_radius_asks_for_a_table(arguments, environment, tmp_path):  # noqa: F811
    code, _, err = run([*arguments, "--neighbours=40px"], environment, tmp_path)
    assert code == 0, err
    for name in ("measurements.csv", "cell0_measurements.csv"):
        assert "neighbours_within_40_px" in (tmp_path / "out" / name).read_text()
