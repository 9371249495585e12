class BenchmarkError(Exception):
    """What keeps a benchmark from running, in words for a person."""


class UnservedError(BenchmarkError):
    """A server does not serve a case; the run goes on, and the table says so."""
