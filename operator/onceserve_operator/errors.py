"""Errors of the operator, each with the words that a person reads."""


class OperatorError(Exception):
    """An error that the operator explains in a condition."""


class InvalidSpecError(OperatorError):
    """The spec does not have the form that this release reads."""


class NoClusterError(OperatorError):
    """There is no API server to talk to."""
