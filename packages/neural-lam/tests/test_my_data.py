"""The page "My data": every command it shows runs, on files of the kinds that it tells of."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import xarray as xr

from neural_lam.__main__ import main

PACKAGE = Path(__file__).parents[1]
PAGE = PACKAGE.parents[1] / "docs" / "neural-lam" / "my-data.md"
sys.path.insert(0, str(PACKAGE / "bench"))
corpus = pytest.importorskip("corpus")
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the package stands alone")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)


def _write(folder):
    """The reader's files: two of the Climate Data Store, one of WRF, an ensemble."""
    (folder / "cds").mkdir()
    fields = corpus._cds(corpus.base())
    for variable in ("t2m", "z"):
        # Surface fields have no levels.
        part = fields[[variable]]
        part = part.drop_vars("pressure_level", errors="ignore") if variable == "t2m" else part
        part.to_netcdf(folder / "cds" / f"{variable}.nc", engine="h5netcdf")
    corpus.CASES["WRF"](folder)
    (folder / "d.nc").rename(folder / "wrfout_d01_2021-12-25")
    corpus.CASES["a member of an ensemble"](folder)
    (folder / "data.zarr").rename(folder / "ensemble.zarr")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:")
def test_every_command_of_the_page_runs_to_maps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path)
    (configuration,) = _blocks("yaml")
    Path("mine.yaml").write_text(configuration)
    shown = [shlex.split(line) for block in _blocks("bash") for line in block.splitlines()]
    assert [words[1] for words in shown].count("fit") == 3
    for words in shown:
        less = {"fit": ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]}
        assert main([*words[1:], *less.get(words[1], [])]) == 0, " ".join(words)
    for name, maps in (
        ("cds", {"t2m", "z_500", "z_700", "z_850"}),
        ("wrf", {"T2", "PH_0", "PH_1", "PH_2"}),
        ("ensemble", {"2m_temperature", "geopotential_500"}),
    ):
        found = {path.stem for path in (Path("out") / name / "scores").glob("maps_*.png")}
        assert {f"maps_{feature}" for feature in maps} <= found, found
    # The member that was forecast is the one that it was scored against.
    truth = xr.open_zarr("ensemble.zarr", consolidated=False)["2m_temperature"].sel(number=1)
    scores = xr.load_dataset("out/ensemble/scores/scores.nc", decode_timedelta=True)
    persistence = scores["rmse"].sel(forecast="persistence", feature="2m_temperature")
    assert float(persistence.max()) < 3 * float(truth.std())


def test_the_page_is_in_the_table_of_contents():
    assert "my-data" in (PAGE.parent / "index.md").read_text(encoding="utf-8").split()
