from typing import Any

import pytest

from onceserve_operator.kube.drift import APPLIED, is_as_wanted, marked


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ({"a": 1}, {"a": 1, "added": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": {"b": 1}}, {"a": {}}, False),
        ({"a": {"b": 1}}, {}, False),
        ({"cpu": "1000m"}, {"cpu": "1"}, True),
        ({"memory": "1024Mi"}, {"memory": "1Gi"}, True),
        ({"cpu": "1"}, {"cpu": "2"}, False),
        ({"a": True}, {"a": "true"}, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ([{"name": "a", "v": 1}], [{"name": "injected"}, {"name": "a", "v": 1, "default": 0}], True),
        ([{"name": "a", "v": 1}], [{"name": "a", "v": 2}], False),
        ([{"name": "a"}], [{"name": "b"}], False),
        ([{"key": "a"}], [{"key": "a"}, {"key": "b"}], False),
        ({"command": "a"}, {"command": ["a"]}, False),
        ("25%", "25%", True),
        ({"name": "A", "value": ""}, {"name": "A"}, True),
        ({"a": {}, "b": []}, {}, True),
        ({"a": "x"}, {}, False),
        ({"a": 0}, {}, False),
        ({"selector": {"a": "1"}}, {"selector": {"a": "1"}}, True),
        ({"selector": {"a": "1"}}, {"selector": {"a": "1", "b": "2"}}, False),
        ({"spec": {"selector": {"matchLabels": {"a": "1"}}}}, {"spec": {"selector": {"matchLabels": {}}}}, False),
        (
            {"selector": {"matchLabels": {"a": "1"}}},
            {"selector": {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}},
            False,
        ),
    ],
)
def test_fields_of_ours_must_stand_and_others_may(wanted: Any, live: Any, same: bool) -> None:
    assert is_as_wanted(wanted, live) is same


def test_a_field_that_is_no_longer_wanted_shows_in_the_mark() -> None:
    before = marked({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}})
    after = marked({"metadata": {"name": "a"}, "spec": {"x": 1}})
    assert not is_as_wanted(after, before)


def test_the_mark_keeps_other_annotations_and_is_stable() -> None:
    manifest = {"metadata": {"annotations": {"a": "b"}}, "spec": {"x": 1, "y": 2}}
    turned = {"spec": {"y": 2, "x": 1}, "metadata": {"annotations": {"a": "b"}}}
    assert marked(manifest) == marked(turned)
    assert set(marked(manifest)["metadata"]["annotations"]) == {"a", APPLIED}
