import json

from hypothesis import given
from hypothesis import strategies as st

from onceserve_contract.termination import MAX_BYTES, Failure, FailureReason, decode, encode

failures = st.builds(Failure, st.sampled_from(FailureReason), st.text(max_size=200))


@given(failures)
def test_a_message_comes_back_as_it_was_left(failure: Failure) -> None:
    assert decode(encode(failure)) == failure


@given(st.text(min_size=1, max_size=5), st.integers(1_000, 5_000))
def test_a_long_message_is_cut_to_what_the_kubelet_keeps(piece: str, times: int) -> None:
    failure = Failure(FailureReason.LOAD_FAILED, piece * times)
    text = encode(failure)
    assert len(text.encode()) <= MAX_BYTES
    decoded = decode(text)
    assert decoded is not None
    assert decoded.reason is FailureReason.LOAD_FAILED
    assert failure.message.startswith(decoded.message.removesuffix("…"))


@given(st.text() | st.sampled_from(["null", "[]", "{}", '{"reason":"Nope","message":""}', '{"reason":"NotFound"}']))
def test_what_is_not_ours_is_no_failure(text: str) -> None:
    assert decode(text) is None


def test_the_form_is_one_json_object() -> None:
    assert json.loads(encode(Failure(FailureReason.NOT_FOUND, "gone"))) == {"reason": "NotFound", "message": "gone"}
