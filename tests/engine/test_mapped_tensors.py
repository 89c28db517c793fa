"""Tensors mapped one by one are those of the file, change nothing in it, and are let go one by one."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from haystack_integrations.common.bloomz import int8
from haystack_integrations.common.bloomz.bloom import linear_of
from haystack_integrations.common.bloomz.int8 import Int8Embedding, Int8Linear
from haystack_integrations.common.bloomz.mapped_tensors import mapped_tensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {
        "poids.float32": torch.randn(300, 40),
        "weights.float16": torch.randn(300, 41).half(),
        "weights.bfloat16": torch.randn(301, 40).bfloat16(),
        "odd": torch.ones(3, dtype=torch.int8),  # what follows it in the file stands at an odd place
        "vector": torch.randn(40),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 40),
        "rare": torch.arange(12).view(3, 4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_mapped_tensors_are_those_of_the_file(file: Path) -> None:
    found, expected = dict(mapped_tensors(file)), load_file(file)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape), name
        assert torch.equal(tensor, expected[name]), name
    before = file.read_bytes()
    for tensor in found.values():
        tensor.zero_()
    assert file.read_bytes() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_matrix_that_is_dropped_is_no_longer_mapped(file: Path) -> None:
    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count(str(file))

    found = dict(mapped_tensors(file))
    assert mappings() == 3, "the matrices; all the rest is copied"
    del found["weights.float16"]
    assert mappings() == 2
    found.clear()
    assert mappings() == 0


def test_a_torn_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SafetensorError):
        dict(mapped_tensors(file))
    file.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(SafetensorError):
        dict(mapped_tensors(file))


def test_weights_rounded_a_part_at_a_time_are_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        weight = torch.randn(100, 64).mul_(torch.logspace(-3, 3, 100)[:, None]).to(dtype)
        plain, table = linear_of(weight, torch.randn(100)), torch.nn.Embedding.from_pretrained(weight)
        rows, ids = torch.randn(5, 64), torch.arange(100)
        given = []
        for part in (1000, 7):
            monkeypatch.setattr(int8, "TABLE_ROWS", part)
            layer = Int8Linear(plain, fine=True)
            given.append((layer.integers(), layer(rows), Int8Embedding(table)(ids)))
        assert all(torch.equal(one, other) for one, other in zip(*given, strict=True))
        whole = weight.float()
        scales = whole.abs().amax(1).div(127)
        assert torch.equal(given[1][0], (whole / scales[:, None]).round().to(torch.int8))
