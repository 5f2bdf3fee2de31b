"""The main job on real fields: ERA5 2 m temperature over the British Isles."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from neural_lam.__main__ import main
from neural_lam.fields.store import FieldStore
from neural_lam.verification.forecasts import create_forecasts, finish_forecasts, write_forecast
from neural_lam.verification.store import verify_store

NAME = "era5_uk_2m_temperature_2019-03.nc"
FOLDERS = [Path(os.environ.get("NEURAL_LAM_DATA", "."))]
FOLDERS += [parent / "shared" / "data" for parent in Path(__file__).resolve().parents]
FILE = next((folder / NAME for folder in FOLDERS if (folder / NAME).exists()), Path(NAME))

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


def test_verify_reproduces_the_simple_forecasts(tmp_path):
    # Computed independently of this package, over the same 125 analysis times.
    store = FieldStore(str(FILE), ["2m_temperature"])
    path, starts = str(tmp_path / "persistence.zarr"), range(595, 720)
    attributes = {"data": str(FILE), "boundary_width": 4, "training_stop": 446}
    create_forecasts(path, store, store.times[list(starts)], 24, attributes)
    for position, start in enumerate(starts):
        write_forecast(path, store, position, store.states(start, start + 1).expand(24, -1, -1))
    finish_forecasts(path)
    found = verify_store(path, uniform=True, progress=False).scores["rmse"].isel(feature=0)
    leads = found["prediction_timedelta"] / np.timedelta64(1, "h")
    expected = {
        "model": {1: 0.669, 3: 1.801, 6: 3.111, 12: 4.232, 24: 1.684},
        "persistence": {1: 0.669, 3: 1.801, 6: 3.111, 12: 4.232, 24: 1.684},
        "same_hour_yesterday": {1: 1.428, 3: 1.474, 6: 1.548, 12: 1.582, 24: 1.684},
        "climatology": {1: 2.288, 3: 2.290, 6: 2.294, 12: 2.253, 24: 2.214},
        "five_point_stencil": {1: 0.423, 3: 1.149, 6: 1.829, 12: 2.135, 24: 2.006},
        "principal_components": {6: 1.409, 12: 1.385, 24: 1.277},
    }
    for name, rows in expected.items():
        for lead, value in rows.items():
            score = float(
                found.sel(forecast=name).isel(prediction_timedelta=leads.values == lead)[0]
            )
            assert abs(score - value) < 6e-4, (name, lead, score)
