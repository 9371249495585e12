"""The protocol's messages; generated from `open_inference.proto`."""
