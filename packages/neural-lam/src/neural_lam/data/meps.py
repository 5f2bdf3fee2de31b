"""The numpy files of the MEPS example data, as neural-lam 0.1 to 0.7 read them.

Each file ``samples/<split>/nwp_<YYYYmmddHH>_mbr<nnn>.npy`` is a run of forecast steps
``(time, y, x, feature)``; radiation is beside it over ``(time, y, x)`` and open water over
``(y, x)``. ``static`` holds the grid, the border mask, the geopotential and the statistics.
Here the runs stand one after another; a window never leaves its run.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.data.mllam import ForcingMoments, inverse_projection, read_yaml
from neural_lam.data.statistics import Statistics
from neural_lam.fields.calendar import Calendar
from neural_lam.fields.chunks import ChunkReader
from neural_lam.fields.datastore import Availability, check_finite, complete_store
from neural_lam.fields.features import Feature
from neural_lam.shell.errors import InputError

__all__ = ["MepsStore"]

_SPLITS = ("train", "val", "test")
_FLUX = "nwp_toa_downwelling_shortwave_flux_{}.npy"


def _duration(path: str, value: object) -> np.timedelta64:
    """Seconds, or the ``PT3H`` and ``3:00:00`` that yaml files of that project hold."""
    if isinstance(value, timedelta):
        return np.timedelta64(value)
    if isinstance(value, (int, float)):
        return np.timedelta64(round(value), "s")
    text = str(value)
    if text.startswith("PT") and text[-1] in "HMS":
        unit = {"H": 3600, "M": 60, "S": 1}[text[-1]]
        return np.timedelta64(round(float(text[2:-1]) * unit), "s")
    parts = text.split(":")
    if len(parts) == 3 and all(part.isdigit() for part in parts):
        hours, minutes, seconds = map(int, parts)
        return np.timedelta64(3600 * hours + 60 * minutes + seconds, "s")
    raise InputError(f"{path}: dataset.step_length: expected a duration, got {value!r}")


class MepsStore:
    """States, forcing and statistics of the numpy layout.

    Arguments:
        path: Of the yaml with ``dataset``, ``grid_shape_state`` and ``projection``.

    Raises:
        InputError: The yaml or a file is missing or has another shape.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """

    def __init__(self, path: str) -> None:
        self.path, self._root = path, Path(path).parent
        config = read_yaml(path)
        try:
            about = config["dataset"]
            names, units = about["var_names"], about["var_units"]
            titles, self.run_length = about["var_longnames"], int(about["num_timesteps"])
            self._members = int(about["num_ensemble_members"])
            rows, columns = (int(size) for size in config["grid_shape_state"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: dataset or grid_shape_state: {error!r} is missing or wrong"
            ) from None
        self._step = _duration(path, about.get("step_length"))
        self._dropped = [int(i) for i in about.get("remove_state_features_with_index") or []]
        self.features = [
            Feature(str(n), None, str(u), str(t))
            for n, u, t in zip(names, units, titles, strict=True)
        ]
        # Nodes go column by column: x is the slow coordinate.
        xy = self._load("static/nwp_xy.npy", (2, rows, columns))
        self.dims: tuple[str, ...] = ("x", "y")
        self.rows, self.columns = xy[0, 0].astype(np.float64), xy[1, :, 0].astype(np.float64)
        self.positions = xy.transpose(2, 1, 0).reshape(-1, 2).astype(np.float64)
        entry = config.get("projection") or {}
        place = inverse_projection(
            str(entry.get("class_name")), dict(entry.get("kwargs") or {}), *self.positions.T
        )
        missing = np.full(rows * columns, np.nan)
        self.latitude: NDArray[np.float64]
        self.longitude: NDArray[np.float64]
        self.latitude, self.longitude = place if place is not None else (missing, missing)
        self.calendar, self.wraps = Calendar(), False
        self._runs = self._find_runs()
        steps = self._step * np.arange(self.run_length)
        self.times = np.concatenate([analysis + steps for _, analysis, _ in self._runs])
        count = len(self.times)
        self._chunks = ChunkReader(self._read_states, count, self.run_length)
        self._forcing_chunks = ChunkReader(self._read_forcing, count, self.run_length)

    def _load(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        file = self._root / name
        if not file.is_file():
            raise InputError(f"{file}: no such file")
        try:
            values: NDArray[np.float32] = np.load(file)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{file}: can't be read ({error})") from None
        if values.shape != shape:
            raise InputError(f"{file}: expected the shape {shape}, got {values.shape}")
        return values

    def _find_runs(self) -> list[tuple[str, np.datetime64, int]]:
        """Split, analysis time and member of each run, in order."""
        runs: list[tuple[str, np.datetime64, int]] = []
        for split in _SPLITS:
            files = sorted((self._root / "samples" / split).glob("nwp_*_mbr000.npy"))
            if not files:
                raise InputError(f"{self._root / 'samples' / split}: no files nwp_*_mbr000.npy")
            for file in files:
                stamp = file.name.split("_")[1]
                analysis = np.datetime64(
                    f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}", "ns"
                )
                runs += [(split, analysis, member) for member in range(self._members)]
        return runs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.rows), len(self.columns)

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        step: np.timedelta64 = self._step.astype("timedelta64[ns]")
        return step

    def period(self, split: str) -> tuple[int, int]:
        """First state and one past the last of a split."""
        inside = [number for number, run in enumerate(self._runs) if run[0] == split]
        return inside[0] * self.run_length, (inside[-1] + 1) * self.run_length

    @property
    def interior(self) -> Tensor:
        """1 where forecasts are made, ``(G,)``."""
        return 1 - self._static_field("border_mask")

    def _static_field(self, name: str) -> Tensor:
        values = self._load(f"static/{name}.npy", self.shape[::-1])
        return torch.from_numpy(np.ascontiguousarray(values.T, dtype=np.float32)).flatten()

    def _stamp(self, number: int) -> tuple[str, str]:
        split, analysis, _ = self._runs[number]
        text = np.datetime_as_string(analysis, unit="h")
        return split, text.replace("-", "").replace("T", "")

    def _read_states(self, start: int, stop: int) -> Tensor:
        number = start // self.run_length
        split, stamp = self._stamp(number)
        width = len(self.features) + len(self._dropped)
        shape = (self.run_length, *self.shape[::-1], width)
        values = self._load(
            f"samples/{split}/nwp_{stamp}_mbr{self._runs[number][2]:03d}.npy", shape
        )
        kept = [index for index in range(width) if index not in self._dropped]
        states = (
            torch.from_numpy(values.astype(np.float32))[..., kept].transpose(1, 2).flatten(1, 2)
        )
        check_finite(self.path, states, self.features, self.times[start:stop])
        return states.contiguous()

    def _read_forcing(self, start: int, stop: int) -> Tensor:
        split, stamp = self._stamp(start // self.run_length)
        grid = self.shape[::-1]
        flux = self._load(f"samples/{split}/{_FLUX.format(stamp)}", (self.run_length, *grid))
        water = self._load(f"samples/{split}/wtr_{stamp}.npy", grid)
        times = self.times[start:stop]
        hour = (times - times.astype("datetime64[D]")) // np.timedelta64(1, "h") / 12 * np.pi
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int) + 1
        angles = (hour, day / 365 * 2 * np.pi)
        cycles = [(f(angle) + 1) / 2 for angle in angles for f in (np.sin, np.cos)]
        fields = [flux, np.broadcast_to(water, flux.shape)]
        fields += [np.broadcast_to(c[:, None, None], flux.shape) for c in cycles]
        stacked = np.stack(fields, axis=-1).astype(np.float32).swapaxes(1, 2)
        return torch.from_numpy(stacked.reshape(len(times), -1, len(fields)))

    @property
    def availability(self) -> Availability:
        """Everything: a missing value is refused where it is read."""
        return complete_store(len(self.times), len(self.latitude), len(self.features))

    @property
    def labels(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates of rows and columns."""
        return self.rows, self.columns

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.features)
        return f"MepsStore({self.path}: {names}; {len(self._runs)} runs)"

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``."""
        return self._chunks.read(start, stop)

    def forcing(self, start: int, stop: int) -> Tensor:
        """Consecutive forcing, ``(stop - start, G, F)``."""
        return self._forcing_chunks.read(start, stop)

    def _tensor(self, name: str) -> Tensor:
        file = self._root / "static" / name
        if not file.is_file():
            raise InputError(f"{file}: no such file")
        found: Tensor = torch.load(file, weights_only=True)
        return found.float()

    @property
    def statistics(self) -> Statistics:
        """Of the training split, from the files; those of changes are standardised there."""
        mean, std = self._tensor("parameter_mean.pt"), self._tensor("parameter_std.pt")
        return Statistics(
            mean, std, self._tensor("diff_mean.pt") * std, self._tensor("diff_std.pt") * std
        )

    @property
    def forcing_moments(self) -> ForcingMoments:
        """Radiation is standardised, the rest is left as it is."""
        flux = self._tensor("flux_stats.pt")
        mean, std = torch.zeros(6), torch.ones(6)
        mean[0], std[0] = flux[0], flux[1]
        return ForcingMoments(mean, std)

    @property
    def static(self) -> Tensor:
        """Standardised geopotential, border mask, x and y, ``(G, 4)``."""
        fields = [self._static_field("surface_geopotential"), self._static_field("border_mask")]
        fields += list(torch.from_numpy(self.positions).float().unbind(1))
        stacked = torch.stack(fields, dim=1)
        std = stacked.std(0, correction=0)
        return (stacked - stacked.mean(0)) / std.clamp(min=torch.finfo(torch.float32).eps)
