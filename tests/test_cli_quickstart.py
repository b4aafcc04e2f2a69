"""The quickstart: its settings, its refusals, and (slow) the whole of it."""

import csv
import json

import numpy as np
import pytest

from mlffjax.cli import main
from mlffjax.config.base import ConfigError
from mlffjax.config.run import RunSettings
from mlffjax.quickstart import MINUTES, quickstart, settings_for


def test_time_sets_the_number_of_steps(tmp_path):
    short, default = settings_for(tmp_path, 1.28), settings_for(tmp_path, MINUTES)
    assert default.training.steps == 30_000 == 5 * short.training.steps
    assert isinstance(default, RunSettings)
    assert default.data.split.test == "rest"


def test_a_time_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="above 0"):
        quickstart(tmp_path, minutes=0.0)


def test_an_earlier_quickstart_is_not_overwritten(tmp_path, capsys):
    kept = tmp_path / "training" / "thesis.tex"
    kept.parent.mkdir()
    kept.write_text("years of work")
    assert main(["quickstart", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "other files" in capsys.readouterr().err
    assert kept.read_text() == "years of work"


@pytest.mark.slow
def test_quickstart_trains_simulates_and_reports(tmp_path, capsys):
    out = tmp_path / "quickstart"
    assert main(["quickstart", "--out", str(out), "--minutes", "1.14"]) == 0
    assert "Force MAE" in capsys.readouterr().out
    metrics = json.loads((out / "training" / "test" / "metrics.json").read_text())
    assert metrics["forces_mae"] < 0.08
    with (out / "nve" / "thermo.csv").open() as file:
        rows = list(csv.DictReader(file))
    time = np.array([float(row["time_fs"]) for row in rows]) / 1000
    total = np.array([float(row["total_eV"]) for row in rows])
    assert time[-1] == pytest.approx(10.0)
    assert abs(np.polyfit(time, total, 1)[0]) / 9 < 1e-4
    report = (out / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 8
    assert "GFN2-xTB" in report
