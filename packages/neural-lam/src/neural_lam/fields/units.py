"""Units by their UDUNITS spellings: whether two are alike, and factors between them.

Files write ``m s-1``, ``m s**-1``, ``m.s-1`` and ``m/s``, ``degC`` and ``Celsius``, ``hPa`` and
``millibars`` for the same. The registry of pint knows the units; here its grammar learns the
exponents of UDUNITS.
"""

import re
from functools import cache
from typing import Any

__all__ = ["alike", "convert", "known", "same_units"]

_DIRECTIONS = re.compile(r"^degrees?_?(north|south|east|west|[NSEW])$", re.IGNORECASE)
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"


@cache
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for line in (
        "@alias degree_Celsius = Celsius = deg_C = degrees_Celsius",
        "mb = 100 * pascal",
        "@alias kelvin = degK = deg_K = degrees_K",
        "geopotential_metre = meter = gpm",
        "part_per_million = 1e-6 = ppmv",
    ):
        registry.define(line)
    return registry


def _as_pint(units: str) -> str:
    """Exponents and products as pint writes them."""
    text = units.strip().replace("**", "^")
    if text.lower() in {"", "1", "~", "none", "-", "dimensionless", "(0 - 1)", "fraction"}:
        return "dimensionless"
    if _DIRECTIONS.match(text):
        return "degree"
    # A dot between units multiplies; one between digits is a decimal point.
    text = re.sub(r"(?<=[A-Za-z])\.(?=[A-Za-z])|(?<=\d)\.(?=[A-Za-z])", " ", text)
    text = re.sub(r"([A-Za-z%])\^?([+-]?\d+)", r"\1^\2", text)
    return re.sub(r"(?<=[\w%)])\s+(?=[A-Za-z(%])", "*", text)


@cache
def _quantity(units: str) -> Any:
    """One of a unit, or nothing if the unit is unknown."""
    registry = _registry()
    try:
        return registry.Quantity(1, registry.parse_units(_as_pint(units)))
    except Exception:
        pass
    match = re.match(rf"^({_NUMBER})\s+(.+)$", units.strip())
    if match:
        inner = _quantity(match[2])
        return None if inner is None else float(match[1]) * inner
    return None


def known(units: str) -> bool:
    """Whether a spelling is understood."""
    return _quantity(units) is not None


def alike(a: str, b: str) -> bool:
    """Whether two units measure the same kind of thing; the same text always does."""
    if a.strip() == b.strip():
        return True
    first, second = _quantity(a), _quantity(b)
    if first is None or second is None:
        return False
    return bool(first.dimensionality == second.dimensionality)


def same_units(a: str, b: str) -> bool:
    """Whether two spellings mean the same unit."""
    first, second = _quantity(a), _quantity(b)
    if first is None or second is None:
        return a.strip() == b.strip()
    return bool(first.units == second.units and abs(first.magnitude - second.magnitude) < 1e-12)


def convert(value: float, units: str, to: str) -> float:
    """A value in other units.

    Raises:
        ValueError: A unit is unknown, or they measure different things.
    """
    if not alike(units, to) or not known(units):
        raise ValueError(f"units must be those of {to!r}, got {units!r}")
    registry = _registry()
    quantity = registry.Quantity(value, _quantity(units).units)
    scale = _quantity(units).magnitude / _quantity(to).magnitude
    return float(quantity.to(_quantity(to).units).magnitude * scale)
