"""One line of settings, never numbers by the thousand."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ardm_guidance.shell.showing import in_a_line


class _Pair(NamedTuple):
    sites: Tensor
    name: str

    __str__ = in_a_line


@dataclass(frozen=True)
class _Record:
    first: _Pair
    lengths: tuple[int, ...]

    __str__ = in_a_line


class _Network(nn.Module):
    __str__ = in_a_line

    def __init__(self, width: int, depth: int = 2, unkept: float = 0.5) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.layer = nn.Linear(width, width)


def test_tensors_show_their_shape_and_type() -> None:
    """Values would fill the screen."""
    assert (
        str(_Pair(torch.zeros(2, 3, dtype=torch.float32), "a\nb"))
        == "_Pair(sites=[2, 3] float32, name='a\\nb')"
    )


def test_what_an_object_holds_is_shown_by_its_own_line() -> None:
    """Data classes show their fields."""
    line = str(_Record(_Pair(torch.tensor(1 / 3, dtype=torch.float32), "x"), (1, 2)))
    assert line == "_Record(first=_Pair(sites=0.333333, name='x'), lengths=[1, 2])"


def test_constructors_show_the_arguments_that_are_kept() -> None:
    """A module keeps its tree for ``repr``."""
    network = _Network(3)
    assert str(network) == "_Network(width=3, depth=2)"
    assert repr(network).count("\n") == 2


def test_what_is_held_is_shortened() -> None:
    """Plain modules show their size, functions their name, long lists their beginning."""

    class Held(NamedTuple):
        module: nn.Module
        function: object
        many: list[int]
        table: dict[str, Tensor]
        layers: nn.ModuleList

        __str__ = in_a_line

    table = {"a": torch.zeros(7, dtype=torch.float32)}
    layers = nn.ModuleList([_Network(2)])
    line = str(Held(nn.Linear(40, 50), torch.sigmoid, list(range(999)), table, layers))
    assert "module=Linear(2 050 parameters), function=sigmoid, many=[0, 1, 2" in line
    assert "table={a: [7] float32}" in line
    assert "layers=[_Network(width=2, depth=2)]" in line
    assert len(line) < 250


def test_few_numbers_are_shown() -> None:
    """A curvature or a temperature is what one wants to see."""
    assert str(_Pair(torch.tensor([-1, 2]), "k")) == "_Pair(sites=[-1, 2], name='k')"
    assert "1.5e-12" in str(_Pair(torch.tensor([1.5e-12], dtype=torch.float64), "k"))


def test_an_object_without_settings_shows_its_size() -> None:
    """Modules alone have one."""

    class Bare(nn.Module):
        __str__ = in_a_line

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1234))

    assert str(Bare()) == "Bare(1 234 parameters)"


def test_a_module_that_says_what_it_is_is_believed() -> None:
    """A density of no parameters is told by its own line."""

    class Density(nn.Module):
        def __repr__(self) -> str:
            return "Density(dim=3)"

    class Held(NamedTuple):
        target: nn.Module
        other: nn.Module

        __str__ = in_a_line

    line = str(Held(Density(), nn.Linear(2, 1)))
    assert line == "Held(target=Density(dim=3), other=Linear(3 parameters))"
