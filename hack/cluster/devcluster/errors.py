class ClusterError(Exception):
    """Something a person can act on; its text says what."""


class PreflightError(ClusterError):
    """The machine lacks something."""


class BuildError(ClusterError):
    """A binary could not be built."""


class StartError(ClusterError):
    """A component did not come up within its deadline."""
