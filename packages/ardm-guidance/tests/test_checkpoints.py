import pickle

import pytest
import torch
from safetensors.torch import load_file

from ardm_guidance.shell.checkpoints import (
    CheckpointError,
    export_safetensors,
    keep_plain,
    read_checkpoint,
)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    torch.save({"state_dict": {}, "trap": Trap(tmp_path / "sprung")}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_checkpoint(tmp_path / "bad.ckpt")
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "raw.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_every_damage_is_one_error(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"w": torch.randn(2000)}}, path)
    whole = path.read_bytes()
    assert read_checkpoint(path)["state_dict"]["w"].shape == (2000,)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere.ckpt")


def test_objects_are_dropped_from_hyper_parameters():
    checkpoint = {"hyper_parameters": {"a": 1, "net": torch.nn.Linear(1, 1), "c": {"x": [1, "y"]}}}
    keep_plain(checkpoint)
    assert checkpoint["hyper_parameters"] == {"a": 1, "c": {"x": [1, "y"]}}


def test_weights_are_exported_whole(tmp_path):
    module = torch.nn.Linear(3, 2)
    export_safetensors(module, tmp_path / "weights.safetensors")
    weights = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(weights["weight"], module.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
