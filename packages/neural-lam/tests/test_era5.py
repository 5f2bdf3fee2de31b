"""The main job on real fields: ERA5 2 m temperature over the British Isles."""

import json
from pathlib import Path

import numpy as np
import pytest

from neural_lam.__main__ import main
from neural_lam.data.fields import FieldStore

FILE = Path(__file__).parents[3] / ".." / "shared" / "data" / "era5_uk_2m_temperature_2019-03.nc"

pytestmark = [
    pytest.mark.skipif(not FILE.exists(), reason="the ERA5 file isn't here"),
    pytest.mark.filterwarnings("ignore:.*:"),
]


def test_the_file_is_what_it_says():
    store = FieldStore(str(FILE), ["2m_temperature"])
    assert store.shape == (33, 49)
    assert len(store.times) == 744
    assert store.step == np.timedelta64(1, "h")
    assert 255 < float(store.states(0, 744).min()) < float(store.states(0, 744).max()) < 300


def test_a_short_training_beats_persistence_on_real_fields(tmp_path):
    common = ["--config", "era5-uk.yaml", "--data.init_args.path", str(FILE)]
    common += [
        "--trainer.default_root_dir",
        str(tmp_path),
        "--trainer.enable_progress_bar",
        "false",
    ]
    common += ["--data.init_args.lead_steps", "12", "--data.init_args.stride", "12"]
    saved = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    saved["init_args"] = {"dirpath": str(tmp_path), "filename": "last"}
    arguments = ["fit", *common, "--trainer.max_steps", "60", "--trainer.limit_val_batches", "0"]
    assert main([*arguments, "--trainer.callbacks", json.dumps([saved])]) == 0
    forecast = str(tmp_path / "forecast.zarr")
    checkpoint = str(tmp_path / "last.ckpt")
    assert main(["forecast", *common, "--ckpt_path", checkpoint, "--output", forecast]) == 0
    report = tmp_path / "report.json"
    verify = ["verify", "--forecast", forecast, "--output", str(tmp_path), "--report", str(report)]
    assert main(verify) == 0
    ratio = json.loads(report.read_text())["scores"]["2m_temperature"]["model_over"]
    assert all(ratio["persistence"][hour] < 0.9 for hour in ("1h", "3h", "6h", "12h"))
