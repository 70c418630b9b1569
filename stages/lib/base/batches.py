"""What a mean over batches says: in it the images of a short last batch weigh more than all others."""

EVEN = 0.75  # part of the images that such a mean should at least say as much as


def few_decide(images: int, batch_size: int) -> bool:
    """Tell whether the images of a short last batch weigh so much that the mean is not one over all images."""
    return effective_images(images, batch_size) < EVEN * images


def effective_images(images: int, batch_size: int) -> int:
    """Return how many images, of equal weight, such a mean says as much as.

    Source: L. Kish, Survey sampling (1965).
    """
    whole, rest = divmod(images, batch_size)
    return round((whole + bool(rest)) ** 2 / (whole / batch_size + (1 / rest if rest else 0)))
