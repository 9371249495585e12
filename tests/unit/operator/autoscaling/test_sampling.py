"""Pods that are silent, slow or many, in a time that passes at once."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from onceserve_operator.autoscaling.autoscaler import Autoscaler, Target
from onceserve_operator.autoscaling.policy import PERIOD
from onceserve_operator.domain import Key, Pod
from onceserve_operator.inspection.calls import Calls
from unit.operator.autoscaling.driven import asked
from unit.serving.idempotency import virtual

LATE = 0.1
"""Seconds that an answer may be late in a period."""


class Pods(Calls):
    """Answer after so many seconds, or never."""

    def __init__(self, seconds: float = 0.01) -> None:
        super().__init__()
        self.seconds = seconds
        self.silent: set[str] = set()
        self.answered: defaultdict[str, list[float]] = defaultdict(list)

    async def metrics(self, address: str, scheme: str) -> str:  # noqa: ARG002 - as that of Calls
        await asyncio.sleep(self.seconds if address not in self.silent else 3600)
        self.answered[address].append(asyncio.get_running_loop().time())
        return "onceserve_inflight_requests 1"

    def longest_gap(self, addresses: Iterable[str], since: float = 0) -> float:
        """Return the longest time between two answers, and from the last one until now."""
        now = asyncio.get_running_loop().time()
        times = [[since, *(at for at in self.answered[each] if at > since), now] for each in addresses]
        return max(later - earlier for each in times for earlier, later in pairwise(each))


class World:
    """Models with as many pods each, which are followed."""

    def __init__(self, sizes: dict[str, int], seconds: float = 0.01) -> None:
        self.pods = Pods(seconds)
        self.autoscaler = Autoscaler(lambda _: None, calls=self.pods)
        self.addresses = {model: [f"{model}-{number}" for number in range(size)] for model, size in sizes.items()}

    def follow(self) -> None:
        for model, addresses in self.addresses.items():
            pods = ((Pod(each, "r", True, False, uid=each, address=each), "http") for each in addresses)
            self.autoscaler.want(Key("shop", model), Target(asked(), 2, tuple(pods)))

    def reason(self, model: str) -> str:
        scaling = self.autoscaler.told(Key("shop", model))
        return scaling.reason if scaling else ""


OTHERS = [f"other-{number}" for number in range(20)]


def test_a_hundred_pods_of_one_model_that_turn_silent_keep_no_other_waiting() -> None:
    async def story() -> None:
        world = World({"big": 100} | dict.fromkeys(OTHERS, 3))
        world.follow()
        await asyncio.sleep(20)
        world.pods.silent = set(world.addresses["big"])
        for _ in range(60):
            await asyncio.sleep(1)
            assert {world.reason(each) for each in OTHERS} == {"Following"}
        others = [address for each in OTHERS for address in world.addresses[each]]
        assert world.pods.longest_gap(others, 5) <= PERIOD + LATE
        assert world.reason("big") == "SamplesMissing"

    virtual.run(story(), virtual.Loop())


def test_silent_pods_of_many_models_keep_no_other_waiting_for_long() -> None:
    async def story() -> None:
        world = World(dict.fromkeys([f"silent-{number}" for number in range(60)], 5) | dict.fromkeys(OTHERS, 3))
        world.pods.silent = {each for model, found in world.addresses.items() for each in found if "silent" in model}
        world.follow()
        await asyncio.sleep(20)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        others = [address for each in OTHERS for address in world.addresses[each]]
        assert world.pods.longest_gap(others, began) <= PERIOD + LATE

    virtual.run(story(), virtual.Loop())


def test_silent_pods_keep_the_others_of_their_model_waiting_once() -> None:
    async def story() -> None:
        world = World({"big": 100})
        world.follow()
        await asyncio.sleep(20)
        world.pods.silent = set(world.addresses["big"][::2])
        await asyncio.sleep(20)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        assert world.pods.longest_gap(world.addresses["big"][1::2], began) <= PERIOD + LATE

    virtual.run(story(), virtual.Loop())


def test_a_hundred_pods_of_one_model_tell_in_every_period_though_they_are_slow() -> None:
    async def story() -> None:
        world = World({"big": 100}, seconds=0.2)
        world.follow()
        await asyncio.sleep(60)
        assert world.pods.longest_gap(world.addresses["big"], 2) <= PERIOD + LATE
        assert world.reason("big") == "Following"

    virtual.run(story(), virtual.Loop())


def test_who_answers_again_is_found_among_many_who_do_not() -> None:
    async def story() -> None:
        world = World({"big": 60})
        world.pods.silent = set(world.addresses["big"])
        world.follow()
        await asyncio.sleep(60)
        back = world.addresses["big"][40:42]
        world.pods.silent -= set(back)
        await asyncio.sleep(60 / 4 * PERIOD)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(20)
        assert world.pods.longest_gap(back, began) <= PERIOD + LATE

    virtual.run(story(), virtual.Loop())


def test_more_than_there_is_time_for_are_asked_in_turns() -> None:
    async def story() -> None:
        world = World({"big": 100}, seconds=0.45)
        world.follow()
        await asyncio.sleep(60)
        assert world.pods.longest_gap(world.addresses["big"]) <= 3 * PERIOD + 1.5

    virtual.run(story(), virtual.Loop())
