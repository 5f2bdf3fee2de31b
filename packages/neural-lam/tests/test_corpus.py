"""Small stores as meteorologists have them: each opens, by names, or is refused in one line."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_lam import GriddedData

BENCH = Path(__file__).parents[1] / "bench"


def _load(name):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


corpus = _load("corpus")
files = _load("files")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", corpus.CASES)
def test_a_store_opens_and_gives_windows(folder, name):
    case = corpus.CASES[name](folder)
    data = GriddedData(**case.options, lead_steps=3, batch_size=2)
    domain = data.domain
    batch = next(iter(data.train_dataloader()))
    inside = slice(None) if domain.mask is None else domain.mask
    assert torch.isfinite(batch.target[0, 0][inside]).all()
    assert batch.target.shape[-1] == len(data.store.features)
    assert float(domain.statistics.std.min()) > 1.0
    assert "\n" not in repr(data)


# Cases that hold the corpus's own fields, whatever their order and names.
SAME = (
    "NetCDF 3",
    "zarr 2",
    "a file a month",
    "a file a variable",
    "CDS, new",
    "capitals",
    "time in another place",
    "descending levels",
    "pressures in Pa",
    "across Greenwich, cut",
    "across the date line",
    "north to south",
    "WRF",
    "rotated pole (CORDEX)",
    "calendar noleap",
)


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", SAME)
def test_values_stand_at_their_names(folder, name):
    expected = corpus.base()
    case = corpus.CASES[name](folder)
    store = GriddedData(**case.options).store
    field = store.states(3, 4)[0].reshape(*store.shape, -1)[2, 4]
    values = dict(zip([f.name for f in store.features], field.tolist(), strict=True))
    point = expected.isel(time=3, latitude=2, longitude=4)
    surface = next(value for key, value in values.items() if key in {"2m_temperature", "t2m", "T2"})
    assert surface == pytest.approx(float(point["2m_temperature"]), rel=1e-6)
    columns = [value for key, value in values.items() if "_" in key and key != "2m_temperature"]
    levels = sorted(float(point["geopotential"].sel(level=level)) for level in (500, 700, 850))
    np.testing.assert_allclose(sorted(columns), levels, rtol=1e-6)
    if "geopotential_700" in values:
        wanted = float(point["geopotential"].sel(level=700))
        assert values["geopotential_700"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", corpus.REFUSED)
def test_what_cannot_be_used_gets_one_line(folder, name):
    case = corpus.REFUSED[name](folder)
    with pytest.raises(ValueError, match=case.message) as caught:
        _ = GriddedData(**case.options).store
    assert "\n" not in str(caught.value)


def test_a_gap_costs_the_windows_that_touch_it_alone(folder, caplog):
    case = corpus.CASES["a missing day"](folder)
    data = GriddedData(**case.options, rollout_steps=2)
    windows = data.train_dataloader().dataset
    # Four states are gone: of 48 windows of four states, the three that cross the gap.
    assert (windows.num_skipped, len(windows)) == (3, 45)
    assert "3 of 48 windows (6.2 %) touch missing times and are left out" in caplog.text
    times = windows.store.times
    for start in windows.analysis.tolist():
        assert (np.diff(times[start - 1 : start + 3]) == windows.store.step).all()


def test_a_mask_is_where_a_variable_exists(folder):
    case = corpus.CASES["sea surface with a gap"](folder)
    data = GriddedData(**case.options)
    mask = data.domain.mask
    rows, columns = data.store.rows, data.store.columns
    sea = (columns[None] > 7.2) & (rows[:, None] < 52.0)
    names = [feature.name for feature in data.store.features]
    np.testing.assert_array_equal(mask[:, names.index("2m_temperature")].reshape(11, 13), sea)
    assert mask[:, names.index("geopotential_500")].all()
    expected = corpus.base()["2m_temperature"].values[:, sea]
    kept = [*range(40), *range(43, 90)][: data.period(0)[1]]
    np.testing.assert_allclose(data.domain.statistics.mean[0], expected[kept].mean(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize(
    "name",
    ["GRIB", "calendar 360_day", "sea surface with a gap", "a globe", "WRF", "points (ICON)",
     "across Greenwich, cut", "soil depths", "levels by name", "unusual names renamed"],
)  # fmt: skip
def test_every_verb_runs(folder, name):
    assert files.run_case(corpus.CASES[name], folder) == ("", "")
