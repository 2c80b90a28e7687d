"""Changing grey values where they are: colour, noise, cutout, and moves by whole pixels.

Every function takes the numbers that were drawn, and differentiates any number of
times in the images.

Sources: Karras et al. 2020, arXiv:2006.06676, appendix B; Zhao et al. 2020,
arXiv:2006.10738.
"""

import torch
from torch import Tensor


def recolour(images: Tensor, colour: Tensor) -> Tensor:
    """Sends grey values through homogeneous colour matrices.

    Args:
        images: (N, 1, H, W) float32 or float64; the result has the same type.
        colour: (N, 2, 2) acting on the column (grey, 1), or (N, 4, 4) acting on (red,
            green, blue, 1): the three are then all grey, and the result is their mean.

    Returns:
        (N, 1, H, W).
    """
    rows = colour.detach().double()
    if colour.shape[-1] == 4:
        mean = rows[:, :3].mean(dim=1)
        rows = torch.stack([mean[:, :3].sum(dim=1), mean[:, 3]], dim=1)[:, None]
    gain, offset = _per_image(rows[:, 0], images).unbind(1)
    return images * gain + offset


def contrast_about_mean(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies the distance to each image's own mean grey by a factor, (N,)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * _per_image(factor, images)


def add_noise(images: Tensor, noise: Tensor, sd: Tensor) -> Tensor:
    """Adds noise of a given strength to each image.

    Args:
        images: (N, 1, H, W) float32 or float64; the result has the same type.
        noise: (N, 1, H, W), standard normal.
        sd: (N,), standard deviation to add it with.

    Returns:
        (N, 1, H, W).
    """
    return images + noise.to(images.dtype) * _per_image(sd, images)


def cut_out(images: Tensor, squares: Tensor) -> Tensor:
    """Sets a square of each image to grey 0.

    Args:
        images: (N, 1, H, W) float32 or float64; the result has the same type.
        squares: (N, 3): x and y of the centre and the side, as shares of the image;
            a pixel is set if its centre lies inside.  Side 0 sets none.

    Returns:
        (N, 1, H, W).
    """
    numbers = squares.to(images.dtype).to(images.device, non_blocking=True)
    x, y, side = numbers[:, :, None].unbind(1)
    height, width = images.shape[2:]
    column = (_range(width, images) + 0.5) / width
    row = (_range(height, images) + 0.5) / height
    in_columns = (column - x).abs() < side / 2
    in_rows = (row - y).abs() < side / 2
    kept = ~(in_rows[:, :, None] & in_columns[:, None, :])
    return images * kept[:, None].to(images.dtype)


def shift(images: Tensor, pixels: Tensor) -> Tensor:
    """Moves each image by whole pixels; grey 0 moves in.

    Args:
        images: (N, 1, H, W).
        pixels: (N, 2) integers, to the right and down.

    Returns:
        (N, 1, H, W).
    """
    by = pixels.to(images.device, non_blocking=True)
    for axis, amount in ((3, by[:, 0]), (2, by[:, 1])):
        size = images.shape[axis]
        source = torch.arange(size, device=images.device) - amount[:, None]
        inside = (source >= 0) & (source < size)
        images = _gathered(images, source.clamp(0, size - 1), axis)
        images = images * _along(inside.to(images.dtype), axis)
    return images


def rearrange(images: Tensor, inverse: Tensor) -> Tensor:
    """Flips, quarter turns and whole shifts, without changing any grey value.

    Resampling would change them: its filter is not quite symmetric, so that a mirrored SEM
    image comes out of it 1 to 3 % of its contrast (rms) away from the mirrored pixels.

    Args:
        images: (N, 1, H, H).
        inverse: (N, 3, 3) on the host, each one for which `rearranges` says yes.

    Returns:
        (N, 1, H, H); outside its frame an image is mirrored, the edge pixels not
        repeated.
    """
    side = images.shape[-1]
    turned = (inverse[:, 0, 0] == 0).to(images.device, non_blocking=True)
    # Result (c, d) comes from (a c + b d + t, ...): where a is 0, x and y change places.
    images = torch.where(turned[:, None, None, None], images.mT, images)
    sign = inverse[:, :2, :2].sum(dim=1)
    from_centre = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    shifts = torch.where(inverse[:, 0, :1] == 0, inverse[:, :2, 2].flip(1), inverse[:, :2, 2])
    source = sign[:, :, None] * from_centre + shifts[:, :, None] + (side - 1) / 2
    period = source.round().long().remainder(2 * (side - 1))
    mirrored = torch.minimum(period, 2 * (side - 1) - period).to(images.device, non_blocking=True)
    return _gathered(_gathered(images, mirrored[:, 0], 3), mirrored[:, 1], 2)


def rearranges(inverse: Tensor, side: int) -> Tensor:
    """Which transforms send pixels onto pixels, (N,) bool, and not farther than the side.

    Args:
        inverse: (N, 3, 3) on the host, in pixels from the centre of the image.
        side: Side of the images in pixels.
    """
    linear, by = inverse[:, :2, :2], inverse[:, :2, 2]
    signed = (linear.abs().sum(dim=1) == 1) & (linear.abs().sum(dim=2) == 1)
    units = ((linear == 0) | (linear.abs() == 1)).all(dim=2).all(dim=1)
    whole = (by == by.round()) & (by.abs() < side)
    return units & signed.all(dim=1) & whole.all(dim=1)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """(N, ...) on the host -> (N, ..., 1, 1, 1) beside the images."""
    beside = values.to(images.dtype).to(images.device, non_blocking=True)
    return beside[..., None, None, None]


def _range(size: int, images: Tensor) -> Tensor:
    return torch.arange(size, device=images.device, dtype=images.dtype)


def _gathered(images: Tensor, source: Tensor, axis: int) -> Tensor:
    """Takes along one axis; (N, size) says from where, for every line alike."""
    return images.gather(axis, _along(source, axis).expand_as(images))


def _along(values: Tensor, axis: int) -> Tensor:
    """(N, size) -> (N, 1, 1, size) for axis 3, (N, 1, size, 1) for axis 2."""
    return values[:, None, None, :] if axis == 3 else values[:, None, :, None]
