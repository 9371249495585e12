import copy

import kopf
import pytest

from onceserve_operator import handlers


class Uncopied(dict[str, object]):
    """An object that must not be copied whole."""

    def __deepcopy__(self, _: object) -> "Uncopied":
        raise AssertionError("an object was copied")


def test_kopf_copies_no_object_to_look_for_differences() -> None:
    _, settings = handlers._registered(lambda _manifest, _happened: None, request_timeout=1)
    body = kopf.Body({"metadata": {"name": "risk"}, "spec": Uncopied()})
    with pytest.raises(AssertionError, match="an object was copied"):
        copy.deepcopy(dict(body))
    storage = settings.persistence.diffbase_storage
    assert (storage.build(body=body), storage.fetch(body=body)) == ({}, None)
