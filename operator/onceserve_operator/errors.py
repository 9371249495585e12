"""Errors of the operator, each with the words that a person reads."""


class OperatorError(Exception):
    """An error that the operator explains in a condition."""


class InvalidSpecError(OperatorError):
    """The spec does not have the form that this release reads."""


class StoppedError(OperatorError):
    """A part of the operator that must go on has ended, in words."""


class SettingError(OperatorError):
    """A setting is of no use, by the name of its variable."""


class NoClusterError(OperatorError):
    """There is no API server to talk to."""


class ApiRefusedError(OperatorError):
    """The API server will not do what it was asked, in its own words."""


class NotFoundError(ApiRefusedError):
    """The object is not there."""


class ApiUnavailableError(OperatorError):
    """The API server did not do what it was asked, and may do it later."""


class ConflictError(ApiUnavailableError):
    """Another wrote the object since it was read, or made it first."""
