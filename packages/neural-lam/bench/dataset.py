"""A data set on disk as mllam-data-prep and upstream read it."""

from pathlib import Path

import numpy as np
import xarray as xr
from problem import Problem

__all__ = ["write_dataset"]

_INPUT = """\
  {kind}_input:
    path: {source}
    dims: [{dims}]
    variables: [{names}]
    dim_mapping:
      {time}{kind}_feature: {{method: stack_variables_by_var_name, name_format: "{{var_name}}"}}
      grid_index: {{method: stack, dims: [x, y]}}
    target_output_variable: {kind}
"""
_TIME = "time: {method: rename, dim: time}\n      "
_STORE = """\
schema_version: v0.5.0
dataset_version: v0.1.0
output:
  variables:
    static: [grid_index, static_feature]
    state: [time, grid_index, state_feature]
    forcing: [time, grid_index, forcing_feature]
  coord_ranges:
    time: {{start: "{times[0]}", end: "{times[3]}", step: PT1H}}
  chunking: {{time: 24}}
  splitting:
    dim: time
    splits:
      train:
        start: "{times[0]}"
        end: "{times[1]}"
        compute_statistics:
          ops: [mean, std, diff_mean, diff_std]
          dims: [grid_index, time]
      val: {{start: "{times[1]}", end: "{times[2]}"}}
      test: {{start: "{times[2]}", end: "{times[3]}"}}
inputs:
{inputs}extra:
  projection:
    class_name: PlateCarree
    kwargs: {{central_longitude: 0.0}}
"""
_CONFIG = """\
datastore:
  kind: mdp
  config_path: data.datastore.yaml
training:
  state_feature_weighting:
    __config_class__: UniformFeatureWeighting
"""


def write_dataset(problem: Problem, folder: Path, num_times: int) -> None:
    """Write ``source.zarr``, ``data.datastore.yaml`` and ``config.yaml``."""
    generator = np.random.default_rng(0)
    shape = (problem.rows, problem.columns)
    times = np.datetime64("2020-01-01", "ns") + np.arange(num_times) * np.timedelta64(1, "h")
    sizes = {"state": problem.states, "forcing": problem.forcings, "static": 4}
    variables, inputs = {}, ""
    for kind, size in sizes.items():
        names = [f"{kind}_{number}" for number in range(size)]
        dims = ["x", "y"] if kind == "static" else ["time", "x", "y"]
        full = shape if kind == "static" else (num_times, *shape)
        for name in names:
            values = generator.standard_normal(full, dtype=np.float32)
            attributes = {"units": "1", "long_name": name}
            variables[name] = (dims, values, attributes)
        inputs += _INPUT.format(
            kind=kind,
            source=(folder / "source.zarr").resolve(),
            dims=", ".join(dims),
            names=", ".join(names),
            time="" if kind == "static" else _TIME,
        )
    coordinates = {
        "time": times,
        "x": np.arange(shape[0]) * 0.1,
        "y": 40 + np.arange(shape[1]) * 0.1,
    }
    xr.Dataset(variables, coordinates).to_zarr(folder / "source.zarr", consolidated=True)
    marks = [times[int(part * (num_times - 1))] for part in (0, 0.6, 0.8, 1)]
    stamps = [np.datetime_as_string(mark, unit="m") for mark in marks]
    (folder / "data.datastore.yaml").write_text(_STORE.format(times=stamps, inputs=inputs))
    (folder / "config.yaml").write_text(_CONFIG)
