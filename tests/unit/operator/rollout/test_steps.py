from typing import Any

import pytest

from onceserve_operator.api.rollout import Rollout
from onceserve_operator.rollout.steps import Step, Wait, Weight, first_weight, of_strategy, weight_at

CANARY = (Weight(0), Wait(90), Weight(20), Wait(), Weight(100))


@pytest.mark.parametrize(
    ("rollout", "steps"),
    [
        ({}, (Weight(100),)),
        ({"strategy": "BlueGreen"}, (Weight(100),)),
        ({"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual"}}, (Wait(), Weight(100))),
        (
            {
                "strategy": "Canary",
                "canary": {
                    "steps": [{"weight": 0}, {"pause": {"duration": "1m30s"}}, {"weight": 20}, {"pause": {}}],
                },
            },
            CANARY,
        ),
        ({"strategy": "Canary", "canary": {"steps": [{"weight": 100}]}}, (Weight(100),)),
    ],
)
def test_a_strategy_is_a_row_of_steps_of_which_the_last_gives_all(
    rollout: dict[str, Any], steps: tuple[Step, ...]
) -> None:
    assert of_strategy(Rollout.model_validate(rollout)) == steps


def test_a_weight_holds_until_the_next() -> None:
    assert [weight_at(CANARY, index) for index in range(5)] == [0, 0, 20, 20, 100]
    assert weight_at((Wait(), Weight(100)), 0) == 0


def test_pods_come_up_for_the_first_weight_that_is_more_than_none() -> None:
    assert first_weight(CANARY) == 20
    assert first_weight((Wait(), Weight(100))) == 100
