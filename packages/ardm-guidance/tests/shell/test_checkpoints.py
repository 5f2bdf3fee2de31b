import pickle
import random
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from ardm_guidance.shell.checkpoints import (
    CheckpointError,
    blame_checkpoint,
    check_classes,
    check_trainable,
    export,
    keep_plain,
    read_checkpoint,
)
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import permit_overwriting


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(autouse=True)
def nothing_permitted():
    permit_overwriting(False)


def saved(path, **content):
    torch.save({"state_dict": {"weight": torch.ones(3)}, **content}, path)
    return path


def test_a_checkpoint_comes_back(tmp_path):
    content = read_checkpoint(saved(tmp_path / "a.ckpt", epoch=3))
    assert content["epoch"] == 3
    assert torch.equal(content["state_dict"]["weight"], torch.ones(3))


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"state_dict": {}, "x": [trap]}])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_checkpoint_is_never_run(tmp_path, wrap, protocol):
    canary = tmp_path / "canary"
    torch.save(wrap(Trap(canary)), tmp_path / "evil.ckpt", pickle_protocol=protocol)
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(wrap(Trap(canary)), protocol))
    canary.unlink(missing_ok=True)
    for name in ("evil.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / name)
    assert not canary.exists()


def test_every_truncation_is_one_error(tmp_path):
    whole = saved(tmp_path / "a.ckpt").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.ckpt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "cut.ckpt")


def test_short_junk_is_one_error(tmp_path):
    # Single letters are opcodes of a pickle, which ends in IndexError, struct.error and others.
    source = random.Random(0)
    junk = [bytes([code]) for code in range(256)]
    junk += [source.randbytes(source.randint(1, 40)) for _ in range(300)]
    for content in junk:
        (tmp_path / "junk.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError) as raised:
            read_checkpoint(tmp_path / "junk.ckpt")
        assert len(str(raised.value).splitlines()) == 1


def test_a_flipped_bit_is_seen(tmp_path):
    path = saved(tmp_path / "a.ckpt", filler=torch.arange(5000))
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda item: item.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 2000] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 1}, "state_dict"),
        ({"state_dict": [1, 2]}, "state_dict"),
        ([1, 2], "mapping"),
        ({"state_dict": {"w": torch.tensor([1.0, float("nan")])}}, "not finite: w"),
        ({"state_dict": {}, "hyper_parameters": [1]}, "hyper-parameters"),
    ],
)
def test_what_is_no_checkpoint_says_why(tmp_path, content, reason):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_folder_or_nothing_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    "parameters",
    [
        {"_class_path": "antigravity.Fly"},
        {"network": {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}},
        {"layers": [{"class_path": "os.system"}]},
        {"activation": "os.system"},
        {"network": {"class_path": "torch.load", "init_args": {"f": "x", "weights_only": False}}},
        {"deep": {"deeper": ({"class_path": "builtins.exec"},)}},
    ],
)
def test_a_class_of_others_in_a_checkpoint_is_refused(parameters):
    with pytest.raises(CheckpointError, match="only your own configuration"):
        check_classes("a.ckpt", parameters)


def test_own_classes_torch_s_and_those_of_the_user_are_built():
    own = check_classes.__module__.partition(".")[0]
    parameters = {
        "_class_path": f"{own}.Anything",
        "a": {"class_path": "torch.nn.GELU"},
        "b": {"class_path": "mine.Network"},
        "c": "a sentence. With stops.",
        "d": "file.csv",
        "e": 0.5,
    }
    check_classes("a.ckpt", parameters, named={"mine.Network"})


def test_hyper_parameters_that_are_objects_are_dropped():
    checkpoint = {"hyper_parameters": {"a": 1, "b": [1, {"c": None}], "d": torch.nn.GELU()}}
    keep_plain(checkpoint)
    assert checkpoint["hyper_parameters"] == {"a": 1, "b": [1, {"c": None}]}


def test_weights_are_exported_whole_and_once(tmp_path):
    path, output = saved(tmp_path / "a.ckpt"), tmp_path / "weights.safetensors"
    export(str(path), str(output))
    assert torch.equal(load_file(output)["weight"], torch.ones(3))
    assert {found.name for found in tmp_path.iterdir()} == {"a.ckpt", "weights.safetensors"}
    with pytest.raises(InputError, match="--overwrite"):
        export(str(path), str(output))


@pytest.mark.parametrize(
    "state",
    [
        {"best_model_path": "/run/checkpoints/../../thesis.ckpt", "dirpath": "/run/checkpoints"},
        {"best_model_path": "run/../../thesis.ckpt"},
        {"last_model_path": "/home/thesis.ckpt", "dirpath": "/run/checkpoints"},
        {"kth_best_model_path": "/run/checkpoints/thesis.tex", "dirpath": "/run/checkpoints"},
        {"best_k_models": {"/home/folder": 1.0}, "dirpath": "/run/checkpoints"},
        {"best_k_models": ["/home/folder"], "dirpath": "/run/checkpoints"},
        {"best_model_path": 5, "dirpath": "/run"},
    ],
)
def test_callbacks_name_no_files_but_their_own_checkpoints(state, tmp_path):
    """Lightning removes what such a state names."""
    path = saved(tmp_path / "a.ckpt", callbacks={"ModelCheckpoint{}": state})
    with pytest.raises(CheckpointError, match="its callbacks name files"):
        read_checkpoint(path)


def test_callbacks_of_a_run_that_was_moved_are_fine(tmp_path):
    folder = "/elsewhere/checkpoints"
    state = {
        "dirpath": folder, "best_model_path": f"{folder}/last.ckpt", "last_model_path": "",
        "kth_best_model_path": "", "best_k_models": {f"{folder}/last.ckpt": torch.tensor(1.0)},
    }  # fmt: skip
    read_checkpoint(saved(tmp_path / "a.ckpt", callbacks={"ModelCheckpoint{}": state, "x": {}}))


@pytest.mark.parametrize("callbacks", [[1, 2], {"ModelCheckpoint": "state"}])
def test_callbacks_have_states(callbacks, tmp_path):
    with pytest.raises(CheckpointError, match="its callbacks have no states"):
        read_checkpoint(saved(tmp_path / "a.ckpt", callbacks=callbacks))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({5: torch.ones(2)}, "a weight is named 5"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "w is no plain tensor"),
        ({"w": torch.ones(2, 2).to_sparse()}, "w is no plain tensor"),
        ({"w": torch.ones(2, device="meta")}, "w is no plain tensor"),
        ({"w": torch.zeros(1).expand(10**13)}, "w says to have 10000000000000 numbers"),
    ],
)
def test_what_is_no_weight_is_refused(weights, reason, tmp_path):
    torch.save({"state_dict": weights}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(tmp_path / "a.ckpt")


WHOLE = {
    "optimizer_states": [{"state": {}}], "lr_schedulers": [], "loops": {"fit_loop": {}},
    "epoch": 0, "global_step": 1,
}  # fmt: skip


@pytest.mark.parametrize("key", WHOLE)
def test_a_training_goes_on_with_the_whole_of_it_alone(key):
    check_trainable("a.ckpt", WHOLE)
    for value in (None, "x"):
        with pytest.raises(CheckpointError, match=f"a.ckpt: .*its {key} is no"):
            check_trainable("a.ckpt", {**WHOLE, key: value})
    with pytest.raises(CheckpointError, match="no state of an optimizer"):
        check_trainable("a.ckpt", {**WHOLE, "optimizer_states": []})
    with pytest.raises(CheckpointError, match="weights alone"):
        check_trainable("a.ckpt", {"state_dict": {}})


def test_what_fails_elsewhere_is_not_the_checkpoints_fault():
    try:
        raise KeyError("ours")
    except KeyError as error:
        blame_checkpoint("a.ckpt", error)


def test_a_checkpoint_is_not_replaced_by_its_weights(tmp_path):
    path = saved(tmp_path / "a.ckpt")
    permit_overwriting(True)
    with pytest.raises(InputError, match="is read by this command"):
        export(str(path), str(path))
    assert read_checkpoint(path)
