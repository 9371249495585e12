"""What can go wrong, in the words of the domain; `api.problems` translates to HTTP."""

from onceserve_contract.termination import FailureReason


class OnceServeError(Exception):
    """An error whose text is written for the person who has to act on it."""


class InvalidSettingsError(OnceServeError):
    """The server was configured in a way that it cannot act on."""


class StoreRefusedError(InvalidSettingsError):
    """The store of idempotency is not one to rely on."""


class ModelUnavailableError(OnceServeError):
    """The model could not be fetched, verified or loaded; `reason` is the contract's word for why."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidRequestError(OnceServeError):
    """The request does not fit the protocol or the model's signature."""


class ModelControlDisabledError(OnceServeError):
    """Models are to be loaded or unloaded at run time, and the settings do not allow it."""


class UnknownModelError(OnceServeError):
    """The request names a model or a version that is not served here."""


class NotReadyError(OnceServeError):
    """The model does not answer yet, or not any more."""


class ExecutionFailedError(OnceServeError):
    """The model failed on a request that fits its signature."""


class UnauthenticatedError(OnceServeError):
    """The request carries no API key, or one that is not taken."""


class RetryLaterError(OnceServeError):
    """Not now; `retry_after` is the seconds after which to ask again, with the same key if it has one."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverloadedError(RetryLaterError):
    """No more requests are taken now; one probably will be then."""


class StoreBusyError(OverloadedError):
    """As many requests with a key are in hand as may be: they wait for the store of idempotency."""

    def __init__(self) -> None:
        super().__init__(
            "as many requests wait for the store that keeps the answers as may; "
            "this one was neither looked up nor run, and may be sent again with the same key",
            1.0,
        )


class InvalidKeyError(OnceServeError):
    """The request's Idempotency-Key is missing where it must be there, or of a wrong form."""


class KeyMismatchError(OnceServeError):
    """The request's key belongs to another request."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another request; a new request needs a key of its own")


class InProgressError(RetryLaterError):
    """Another request with the same key is being answered."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("a request with this Idempotency-Key is being answered; ask again for its answer", retry_after)


class StoreFailedError(RetryLaterError):
    """The store of idempotency did not say what became of the request."""


class AnswerNotKeptError(OnceServeError):
    """The request has been answered, and the answer was too large to be kept."""

    def __init__(self, status: int, size: int) -> None:
        super().__init__(
            f"the request with this Idempotency-Key was answered with status {status} and {size} bytes, "
            "which are more than are kept; it is not run again"
        )


class PoisonedError(OnceServeError):
    """The request was begun as often as it may be, and no answer was kept."""

    def __init__(self, attempts: int) -> None:
        super().__init__(f"the request was begun {attempts} times and no answer was kept; it is not tried again")


class DeadlineExceededError(OnceServeError):
    """The request's run had not begun by its deadline, and will not begin any more."""


class UnrepresentableOutputError(OnceServeError):
    """The model answered with values that the asked-for encoding does not have."""


def too_large(max_bytes: int) -> ModelUnavailableError:
    """Return the error for a model above the limit."""
    return ModelUnavailableError(
        FailureReason.LOAD_FAILED, f"the model has more than {max_bytes} bytes (max-model-bytes)"
    )


def too_late() -> DeadlineExceededError:
    """Return the error for a request that was not run because its deadline had passed."""
    return DeadlineExceededError("the request's deadline passed before its run could begin; it was not run")
