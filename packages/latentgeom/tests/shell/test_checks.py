import math

import pytest

from latentgeom.shell.checks import counts, not_negative, positive


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_is_not_positive_is_refused_by_name(value):
    with pytest.raises(ValueError, match="rate must be positive, got"):
        positive(other=1.0, rate=value)


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_what_is_negative_is_refused_by_name(value):
    with pytest.raises(ValueError, match="decay must not be negative, got"):
        not_negative(other=0.0, decay=value)


@pytest.mark.parametrize("value", [0, -4])
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"number must be at least 1, got {value}"):
        counts(other=1, number=value)


def test_good_numbers_pass():
    positive(a=1e-300)
    not_negative(a=0.0)
    counts(a=1)
