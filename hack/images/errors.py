class ImageError(Exception):
    """An image cannot be built; the text says what to do about it."""
