"""Numbers that Lightning takes and stumbles over later are refused where they enter."""

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from neural_lam.shell.errors import InputError
from neural_lam.shell.settings import (
    check_checkpoint,
    check_seed,
    check_trainer,
    drop_unwanted_bars,
)


@pytest.mark.parametrize("seed", [None, True, 0, 2**32 - 1])
def test_a_seed_in_range_passes(seed):
    check_seed(seed, "")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_names_the_file(seed):
    with pytest.raises(InputError, match=rf"^a.yaml: seed_everything: .* got {seed}$"):
        check_seed(seed, "a.yaml: ")


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "val_check_interval"])
def test_what_the_loops_divide_by_is_positive(name):
    check_trainer({name: 1}, "")
    check_trainer({name: None}, "")
    with pytest.raises(InputError, match=rf"^trainer.{name}: expected a positive number, got 0$"):
        check_trainer({name: 0}, "")


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_untrained_weights_are_not_scored(verb):
    check_checkpoint(verb, "a.ckpt")
    check_checkpoint("fit", None)
    with pytest.raises(InputError, match="ckpt_path: required"):
        check_checkpoint(verb, None)


@pytest.mark.parametrize(("wanted", "left"), [(False, 1), (True, 2), (None, 2)])
def test_a_bar_that_nobody_wants_is_no_mistake(wanted, left):
    settings = {"enable_progress_bar": wanted, "callbacks": [TQDMProgressBar(), object()]}
    drop_unwanted_bars(settings)
    assert len(settings["callbacks"]) == left
    drop_unwanted_bars({"enable_progress_bar": False, "callbacks": None})
