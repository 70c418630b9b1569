"""What a mean over batches says: in it the images of a short last batch weigh more than all others."""


def effective_images(images: int, batch_size: int) -> int:
    """Return how many images, of equal weight, such a mean says as much as.

    Source: L. Kish, Survey sampling (1965).
    """
    whole, rest = divmod(images, batch_size)
    return round((whole + bool(rest)) ** 2 / (whole / batch_size + (1 / rest if rest else 0)))
