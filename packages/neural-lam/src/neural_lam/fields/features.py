"""What a state's features are: a variable at a level, with units; and names for them."""

from collections.abc import Sequence
from typing import NamedTuple

import xarray as xr

from neural_lam.fields.conventions import File
from neural_lam.fields.roles import is_pressure
from neural_lam.fields.units import alike, convert
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = ["Feature", "Level", "features_of", "level_order", "level_text"]

Level = int | float | str


def level_text(level: Level) -> str:
    """A level in words, without digits that say nothing."""
    return level if isinstance(level, str) else f"{level:.10g}"


class Feature(NamedTuple):
    """One variable at one level.

    Arguments:
        variable: Name in the store.
        level: Pressure in hPa, or what the file counts levels by; nothing without levels.
        units: As the store says.
        long_name: For people.
        vertical: Name of the dimension of levels: ``level`` for pressures, else the file's.
        level_units: Of the level.
    """

    variable: str
    level: Level | None
    units: str
    long_name: str
    vertical: str = "level"
    level_units: str = "hPa"

    @property
    def name(self) -> str:
        """Variable and level in one word."""
        return self.variable if self.level is None else f"{self.variable}_{level_text(self.level)}"

    @property
    def title(self) -> str:
        """Variable and level for people."""
        if self.level is None:
            return self.long_name
        units = f" {self.level_units}" if self.level_units not in {"", "1"} else ""
        return f"{self.long_name} at {level_text(self.level)}{units}"

    def __str__(self) -> str:
        return in_a_line(self)


# What a variable of a name is measured in, where a wrong unit would pass unseen.
_DIMENSIONS = {"temperature": "K", "pressure": "Pa", "wind": "m s-1", "geopotential": "m2 s-2"}
# Kelvin fields lie here; Celsius fields don't.
_KELVIN = (130.0, 400.0)


def _units(file: File, name: str) -> str:
    """Units of a variable, held against what its name says that it measures.

    Raises:
        InputError: They measure something else, or its values can't be in them.
    """
    array = file.data[name]
    units = str(array.attrs.get("units", "1"))
    kind = next((k for k in _DIMENSIONS if name.endswith(k)), None)
    if kind is None or units.strip() in {"", "1"}:
        return units
    if not alike(units, _DIMENSIONS[kind]):
        raise InputError(
            f"{file.path}: {name} has the units {units!r}; a {kind} has those of"
            f" {_DIMENSIONS[kind]}"
        )
    if kind == "temperature" and convert(1.0, units, "K") == 1.0:
        first = array.isel({file.time_dim: 0}).mean().item()
        if first == first and not _KELVIN[0] < first < _KELVIN[1]:
            raise InputError(
                f"{file.path}: {name} says units {units!r}, but its mean at the first time is"
                f" {first:.4g}"
            )
    return units


def _levels(file: File, name: str) -> list[tuple[Level, int]]:
    """Levels of a variable, rising, with their places in the file."""
    dim = file.vertical[name]
    assert dim is not None
    if dim not in file.data.coords:
        return [(number, number) for number in range(file.data.sizes[dim])]
    coordinate = file.data[dim]
    values = coordinate.values
    if values.dtype.kind in "iuf":
        scale = 1.0
        if is_pressure(coordinate) and coordinate.attrs.get("units"):
            scale = convert(1.0, str(coordinate.attrs["units"]), "hPa")
        numbers = [float(value) * scale for value in values]
        exact: list[Level] = [int(v) if v == round(v) else float(f"{v:.10g}") for v in numbers]
    else:
        exact = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    if len(set(exact)) < len(exact):
        twice = next(level for level in exact if exact.count(level) > 1)
        raise InputError(f"{file.path}: {dim} {level_text(twice)} comes twice")
    return sorted(((level, place) for place, level in enumerate(exact)), key=lambda e: e[0])


def level_order(file: File, name: str) -> list[int]:
    """Places in the file of a variable's levels, rising."""
    return [place for _, place in _levels(file, name)]


def features_of(file: File, names: Sequence[str]) -> list[Feature]:
    """Features of variables, sorted by name, each by rising level."""
    found = []
    for name in sorted(names):
        array: xr.DataArray = file.data[name]
        units = _units(file, name)
        title = str(array.attrs.get("long_name", array.attrs.get("standard_name", name)))
        dim = file.vertical[name]
        if dim is None:
            found.append(Feature(name, None, units, title))
            continue
        pressure = dim in file.data.coords and is_pressure(file.data[dim])
        level_units = "hPa"
        if not pressure:
            level_units = str(file.data[dim].attrs.get("units", "")) if dim in file.data else ""
        found += [
            Feature(name, level, units, title, "level" if pressure else dim, level_units)
            for level, _ in _levels(file, name)
        ]
    names_found = [feature.name for feature in found]
    if len(set(names_found)) < len(names_found):
        twice = next(name for name in names_found if names_found.count(name) > 1)
        raise InputError(f"{file.path}: two features have the name {twice}; rename one")
    return found
