from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sem2ct.cyclegan import generators, previews


def test_the_picture_shows_ct_translation_cycle_sem_and_fake_ct_below_one_another():
    ct_to_sem, sem_to_ct = generators.pair(network="robust", scale=2, width=8, blocks=1)
    ct = torch.rand(3, 1, 8, 8) * 2 - 1
    sem = torch.rand(3, 1, 16, 16) * 2 - 1
    picture = previews.grid(ct_to_sem, sem_to_ct, ct, sem)
    assert picture.dtype == np.uint8
    assert picture.shape == (5 * 18 - 2, 3 * 18 - 2)
    assert (picture[16:18] == 255).all()
    middle = picture[:16, 18:34]
    np.testing.assert_array_equal(middle, np.kron(middle[::2, ::2], np.ones((2, 2))))
    grey = (ct[1, 0].numpy() + 1) * 127.5
    np.testing.assert_allclose(middle[::2, ::2], grey, atol=0.51)
    np.testing.assert_allclose(picture[54:70, 36:52], (sem[2, 0].numpy() + 1) * 127.5, atol=0.51)


class Dots(nn.Module):
    """One dark dot in every CT pixel, and a little of the CT."""

    scale, styles = 4, 1

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, ct, noise_key, origin):
        large = ct.repeat_interleave(4, 2).repeat_interleave(4, 3) * self.share
        large[:, :, 1::4, 2::4] -= 1
        return large


@pytest.mark.parametrize(("share", "images", "warned"), [(0.1, 100, 1), (0.1, 99, 0), (5, 100, 0)])
def test_a_pattern_in_every_ct_pixel_is_warned_of_once_a_training_is_under_way(
    share, images, warned, caplog
):
    ct = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    trainer = SimpleNamespace(
        ema=Dots(share),
        sem_to_ct=nn.AvgPool2d(4),
        styles=1,
        inversion=SimpleNamespace(guard_images=100, doubt=lambda _: ""),
    )
    previews.look(trainer, images, ct, torch.zeros(3, 1, 64, 64))
    assert sum("raster is" in record.message for record in caplog.records) == warned
