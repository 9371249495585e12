"""The container images as OCI archives: `build()` returns the paths of all, `build("server")` that of one."""

from images.builder import TARGETS, build, reference
from images.errors import ImageError

__all__ = ["TARGETS", "ImageError", "build", "reference"]
