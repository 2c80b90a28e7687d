import hashlib
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sem2ct.metrics.features import Features
from sem2ct.runtime.refusal import Refusal

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Called as the published file is: (N, 3, H, W) uint8, and whether features are wanted."""

    def __init__(self, dimension: int = 2048):
        super().__init__()
        self.dimension = dimension

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        if not return_features:
            return img.float().mean(dim=(1, 2, 3))
        means = img.float().mean(dim=(2, 3))
        return torch.cat([means, torch.zeros(len(img), self.dimension - 3)], dim=1)


def saved(path, module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path


def test_features_come_tile_by_tile_in_order_with_three_channels(tmp_path):
    path = saved(tmp_path / "inception-2015-12-05.pt", Counting())
    opened = Features(path, CPU)
    tiles = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    count = []
    found = opened.of(lambda k: tiles[k], 20, on_tile=lambda: count.append(1))
    assert found.shape == (20, 2048)
    for channel in range(3):
        np.testing.assert_array_equal(found[:, channel], np.arange(20))
    assert len(count) == 20


def test_the_file_is_named_with_its_digest(tmp_path):
    path = saved(tmp_path / "inception-2015-12-05.pt", Counting())
    assert Features(path, CPU).facts == {
        "file": "inception-2015-12-05.pt",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dimension": 2048,
    }


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(Refusal, match=r"features=.*nowhere.pt: no such file.*inception"):
        Features(tmp_path / "nowhere.pt", CPU)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    for content in (b"", b"not a network", b"PK\x03\x04 cut short"):
        (tmp_path / "odd.pt").write_bytes(content)
        with pytest.raises(Refusal, match=r"features=.*odd.pt: not a TorchScript file"):
            Features(tmp_path / "odd.pt", CPU)


def test_weights_alone_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(Refusal, match=r"weights.pt: not a TorchScript file"):
        Features(tmp_path / "weights.pt", CPU)


def test_another_network_is_refused(tmp_path):
    saved(tmp_path / "small.pt", Counting(64))
    with pytest.raises(Refusal, match=r"gives \(2, 64\).*\(2, 2048\)"):
        Features(tmp_path / "small.pt", CPU)
    saved(tmp_path / "other.pt", nn.Linear(3, 4))
    with pytest.raises(Refusal, match=r"other.pt: cannot be asked for features"):
        Features(tmp_path / "other.pt", CPU)
