r"""Times of any calendar on one axis of equal days.

A model's year may have 365 or 360 days. Here a time is the elapsed time since 1970 *in its own
calendar*, held as a ``datetime64``: steps are then equal, whatever the calendar. For the standard
calendar that is the date itself; for others `Calendar.dates` gives it, and `Calendar.label` a text.
"""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neural_lam.shell.errors import InputError

__all__ = ["Calendar", "Times", "elapsed", "read_times"]

Times = NDArray[np.datetime64]

STANDARD = ("standard", "gregorian", "proleptic_gregorian")
_EPOCH = "seconds since 1970-01-01 00:00:00"
_YEARS = {"noleap": 365, "365_day": 365, "all_leap": 366, "366_day": 366, "360_day": 360}


class Calendar(NamedTuple):
    """A calendar of the CF conventions.

    Arguments:
        name: As CF calls it.

    References:
        Eaton et al., NetCDF Climate and Forecast (CF) metadata conventions, cfconventions.org.
    """

    name: str = "standard"

    @property
    def is_standard(self) -> bool:
        """Whether times are real dates."""
        return self.name in STANDARD

    def dates(self, times: Times) -> NDArray[Any]:
        """Dates of times on the axis: ``datetime64``, or those of cftime."""
        if self.is_standard:
            return times
        import cftime

        seconds = (times - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        found: NDArray[Any] = cftime.num2date(seconds, _EPOCH, calendar=self.name)
        return found

    def label(self, time: np.datetime64) -> str:
        """A time for people, to the minute."""
        if self.is_standard:
            return str(np.datetime_as_string(time, unit="m"))
        return str(self.dates(np.array([time]))[0].strftime("%Y-%m-%dT%H:%M"))

    def year_fraction(self, times: Times) -> NDArray[np.float64]:
        """What part of its year has passed at each time."""
        if self.is_standard:
            years = times.astype("datetime64[Y]")
            length = (years + 1).astype("datetime64[ns]") - years.astype("datetime64[ns]")
            fraction: NDArray[np.float64] = (times - years) / length
            return fraction
        days = (times - np.datetime64(0, "D")) / np.timedelta64(1, "D")
        parts: NDArray[np.float64] = np.mod(days / _YEARS[self.name], 1.0)
        return parts

    def day_of_year(self, times: Times) -> NDArray[np.int64]:
        """Days since the start of the year, from 0; of at most 366."""
        if self.is_standard:
            days = times.astype("datetime64[D]") - times.astype("datetime64[Y]").astype(
                "datetime64[D]"
            )
            return np.asarray(days, dtype=np.int64)
        days = (times - np.datetime64(0, "D")) // np.timedelta64(1, "D")
        return np.asarray(np.mod(days, _YEARS[self.name]), dtype=np.int64)


def elapsed(dates: NDArray[Any], calendar: Calendar) -> Times:
    """Dates on the axis."""
    if calendar.is_standard and np.issubdtype(dates.dtype, np.datetime64):
        return dates.astype("datetime64[ns]")
    import cftime

    seconds = cftime.date2num(dates, _EPOCH, calendar=calendar.name)
    milliseconds = np.round(np.asarray(seconds, dtype=np.float64) * 1000).astype(np.int64)
    return (np.datetime64(0, "ms") + milliseconds).astype("datetime64[ns]")


def _calendar_of(path: str, dates: NDArray[Any]) -> Calendar:
    name = str(getattr(dates.ravel()[0], "calendar", ""))
    if name in STANDARD:
        return Calendar()
    if name not in _YEARS:
        known = ", ".join((*STANDARD, *_YEARS))
        raise InputError(f"{path}: the calendar must be one of {known}, got {name!r}")
    return Calendar(name)


def _from_text(path: str, texts: NDArray[Any]) -> Times:
    """Times of words such as ``2020-01-01_06:00:00``, as WRF writes them."""
    rows = texts.reshape(len(texts), -1)
    found = []
    for row in rows:
        word = "".join(
            part.decode("ascii", "replace") if isinstance(part, bytes) else str(part)
            for part in row
        ).strip()
        try:
            found.append(np.datetime64(word.replace("_", "T"), "ns"))
        except ValueError:
            raise InputError(f"{path}: time: expected dates, got {word!r}") from None
    return np.array(found)


def read_times(path: str, variable: xr.DataArray) -> tuple[Times, Calendar]:
    """The axis of a time coordinate, and its calendar.

    Raises:
        InputError: It holds numbers without a unit, text that is no date, or missing times.
    """
    values = variable.values
    if values.dtype.kind in "SU" or (
        values.dtype == object and values.size and isinstance(values.ravel()[0], str | bytes)
    ):
        return _from_text(path, values), Calendar()
    if np.issubdtype(values.dtype, np.datetime64):
        if np.isnat(values).any():
            raise InputError(f"{path}: {variable.name} has missing times")
        return values.astype("datetime64[ns]"), Calendar()
    if values.dtype == object and values.size and hasattr(values.ravel()[0], "calendar"):
        calendar = _calendar_of(path, values)
        return elapsed(values, calendar), calendar
    raise InputError(
        f"{path}: {variable.name} holds {values.dtype} and no dates; give it units such as"
        " 'hours since 2020-01-01'"
    )
