class ModelCheckError(Exception):
    """A model cannot be checked; the text says what to do about it."""
