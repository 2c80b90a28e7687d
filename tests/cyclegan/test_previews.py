import numpy as np
import torch

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
