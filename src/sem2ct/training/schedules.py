"""How a learning rate changes with the images seen."""


def constant_then_linear(images_seen: int, *, constant_images: int, total_images: int) -> float:
    """Constant first, then a straight line to zero at the end of the training.

    Args:
        images_seen: Progress.
        constant_images: Until here the factor is 1.
        total_images: Here it reaches 0.

    Returns:
        Factor for the learning rate, 0 to 1.

    Source: Zhu et al. 2017, arXiv:1703.10593, appendix 7.1.
    """
    if images_seen <= constant_images:
        return 1.0
    left = total_images - images_seen
    return left / (total_images - constant_images) if left > 0 else 0.0
