"""Wire forms of tensors; pure functions."""
