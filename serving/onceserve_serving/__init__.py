"""The inference server: the Open Inference Protocol over one ONNX model."""

from importlib.metadata import version

__version__ = version("onceserve")
