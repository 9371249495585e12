import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.batching.tensors import NotSplittableError, has_rows, key_of, merge, rows_of, split
from onceserve_serving.tensors import Signature, TensorSpec


def signature(*shapes: tuple[int, ...]) -> Signature:
    specs = {str(index): TensorSpec(str(index), "FP32", shape) for index, shape in enumerate(shapes)}
    return Signature({"0": specs.pop("0")}, specs)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sampled_from([np.dtype("f4"), np.dtype("O")]))
def test_what_is_merged_comes_apart_again(rows: list[int], dtype: np.dtype[np.generic]) -> None:
    random = np.random.default_rng(len(rows))
    requests = [{"a": random.random((n, 2)).astype(dtype), "b": random.random(n).astype(dtype)} for n in rows]
    merged = merge(requests)
    for (a, b), request in zip(split([merged["a"], merged["b"]], rows), requests, strict=True):
        np.testing.assert_array_equal(a, request["a"])
        np.testing.assert_array_equal(b, request["b"])
        assert a.dtype == dtype


@pytest.mark.parametrize("shape", [(), (2, 2), (4,)])
def test_an_output_without_a_row_for_each_is_nobodys(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotSplittableError, match="does not have 3 rows"):
        split([np.zeros(shape)], [1, 2])


@pytest.mark.parametrize(
    ("shapes", "has"),
    [
        ([(-1, 3), (-1,)], True),
        ([(-1, -1), (-1, 2), (-1,)], True),
        ([(1, 3), (-1,)], False),
        ([(-1, 3), (3,)], False),
        ([(-1,), ()], False),
    ],
)
def test_rows_are_where_every_first_dimension_is_free(shapes: list[tuple[int, ...]], has: bool) -> None:
    assert has_rows(signature(*shapes)) is has


@pytest.mark.parametrize(
    ("shapes", "rows"), [([(2, 3)], 2), ([(2,), (2, 5)], 2), ([(2,), (1,)], None), ([()], None), ([(0, 3)], None)]
)
def test_a_request_has_rows_if_all_its_inputs_agree(shapes: list[tuple[int, ...]], rows: int | None) -> None:
    assert rows_of({str(index): np.zeros(shape) for index, shape in enumerate(shapes)}) == rows


def test_only_like_requests_have_the_same_key() -> None:
    base = {"a": np.zeros((1, 3), "f4"), "b": np.zeros((1,), "f4")}
    key = key_of(base, ("y",))
    assert key == key_of({"b": np.ones((2,), "f4"), "a": np.ones((2, 3), "f4")}, ("y",))
    for other in ({"a": np.zeros((1, 4), "f4")}, {"a": np.zeros((1, 3), "f8")}, {"b": np.zeros((1, 1), "f4")}):
        assert key_of({**base, **other}, ("y",)) != key
    assert key_of(base, ("z",)) != key
    single = {"a": base["a"]}
    assert key_of(single, ("y",)) == key_of({"a": np.ones((5, 3), "f4")}, ("y",))
    assert key_of(single, ("y",)) != key_of(single, ("z",))
