import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from latentgeom.shell.checkpoints import CheckpointError, export_safetensors, read_checkpoint


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was executed",))


def test_code_in_a_checkpoint_is_refused_unexecuted(tmp_path):
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Malicious()}))
    with pytest.raises(CheckpointError, match="more than tensors and plain data"):
        read_checkpoint(path)


def test_a_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "flipped.ckpt"
    torch.save({"state_dict": {"w": torch.arange(1000.0)}}, path)
    with zipfile.ZipFile(path) as archive:
        entry = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 500] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_weights_are_exported(tmp_path):
    layer = nn.Linear(3, 2)
    export_safetensors(layer, tmp_path / "weights.safetensors")
    assert torch.equal(load_file(tmp_path / "weights.safetensors")["weight"], layer.weight)
