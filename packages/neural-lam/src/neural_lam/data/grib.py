r"""Fields of GRIB edition 1 on regular latitude-longitude grids, with simple packing.

A packed integer :math:`X` of :math:`n` bits stands for :math:`(R + 2^E X) / 10^D`, with the
reference value :math:`R` as an IBM hexadecimal float. That is all that ERA5's surface fields need;
whatever else a message holds is refused.

References:
    WMO (2009), Manual on codes 306, part B, FM 92-IX Ext. GRIB edition 1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_lam.shell.errors import InputError

__all__ = ["GribField", "read_grib"]


class GribField(NamedTuple):
    """One message.

    Arguments:
        parameter: Its number in its table.
        time: When it is valid.
        latitude: Of the rows in degrees.
        longitude: Of the columns.
        values: ``(rows, columns)``.
    """

    parameter: int
    time: np.datetime64
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    values: NDArray[np.float64]


def _whole(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _signed(octets: bytes) -> int:
    """Sign and magnitude."""
    value, half = _whole(octets), 1 << (8 * len(octets) - 1)
    return half - value if value >= half else value


def _ibm(octets: bytes) -> float:
    """A hexadecimal float: sign, exponent of 16 and a fraction of 24 bits."""
    sign = -1.0 if octets[0] & 0x80 else 1.0
    return sign * _whole(octets[1:]) * 16.0 ** ((octets[0] & 0x7F) - 64 - 6)


def _unpack(octets: bytes, bits: int, count: int) -> NDArray[np.float64]:
    if bits == 0:
        return np.zeros(count)
    if bits in {8, 16, 32}:
        return np.frombuffer(octets, f">u{bits // 8}", count).astype(np.float64)
    flags = np.unpackbits(np.frombuffer(octets, np.uint8), count=count * bits)
    powers = 2.0 ** np.arange(bits - 1, -1, -1)
    unpacked: NDArray[np.float64] = flags.reshape(count, bits) @ powers
    return unpacked


def _valid_time(section: bytes) -> np.datetime64:
    year = 100 * (section[24] - 1) + section[12]
    start = np.datetime64(f"{year:04d}-{section[13]:02d}-{section[14]:02d}", "ns")
    unit = {0: 60, 1: 3600, 2: 86400}.get(section[17], 3600)
    time = start + np.timedelta64(section[15], "h") + np.timedelta64(section[16], "m")
    return np.datetime64(time + np.timedelta64(section[18] * unit, "s"))


def _message(path: str, octets: bytes) -> GribField:
    """The field of the sections after the first."""
    product = octets[: _whole(octets[:3])]
    if product[7] != 0x80:
        raise InputError(f"{path}: expected messages with a grid and without a bit map")
    rest = octets[len(product) :]
    grid = rest[: _whole(rest[:3])]
    if grid[5] != 0 or grid[27] & 0x20:
        raise InputError(f"{path}: expected regular latitude-longitude grids, rows first")
    columns, rows = _whole(grid[6:8]), _whole(grid[8:10])
    first, west, last, east = (_signed(grid[i : i + 3]) / 1000 for i in (10, 13, 17, 20))
    packed = rest[len(grid) :]
    packed = packed[: _whole(packed[:3])]
    if packed[3] & 0xF0:
        raise InputError(f"{path}: expected simple packing of grid points")
    scale, reference = 2.0 ** _signed(packed[4:6]), _ibm(packed[6:10])
    integers = _unpack(packed[11:], packed[10], rows * columns)
    values = (reference + scale * integers) / 10.0 ** _signed(product[26:28])
    if west > east:
        west -= 360
    return GribField(
        product[8],
        _valid_time(product),
        np.linspace(first, last, rows),
        np.linspace(west, east, columns),
        values.reshape(rows, columns),
    )


def read_grib(path: str) -> Iterator[GribField]:
    """The fields of a file, in its order.

    Raises:
        InputError: The file is damaged or holds another kind of message.
    """
    octets = Path(path).read_bytes()
    start = octets.find(b"GRIB")
    if start < 0:
        raise InputError(f"{path}: no GRIB file")
    while start >= 0:
        if octets[start + 7] != 1:
            raise InputError(f"{path}: expected GRIB edition 1, got {octets[start + 7]}")
        length = _whole(octets[start + 4 : start + 7])
        message = octets[start : start + length]
        if len(message) < length or message[-4:] != b"7777":
            raise InputError(f"{path}: cut off in the message at octet {start}")
        yield _message(path, message[8:-4])
        start = octets.find(b"GRIB", start + length)
