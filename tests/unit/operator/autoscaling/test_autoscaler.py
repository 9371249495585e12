import asyncio
from collections.abc import AsyncIterator, Callable
from unittest.mock import AsyncMock

import pytest

from onceserve_operator.autoscaling.autoscaler import Autoscaler, Target
from onceserve_operator.domain import Key, Pod, Scaling
from onceserve_operator.inspection.calls import Calls
from unit.operator.autoscaling.driven import asked
from unit.operator.inspection.misbehaving import Handler, Pods, closes, says, serving, slow
from unit.serving.idempotency import virtual

KEY = Key("shop", "risk")
PERIOD = 0.2


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    async with serving() as found:
        yield found


class Told:
    """An autoscaler, and what it has told."""

    def __init__(self, pods: Pods) -> None:
        self.news = asyncio.Event()
        self.autoscaler = Autoscaler(lambda _: self.news.set(), calls=Calls(port=pods.port), period=PERIOD)

    async def until(self, holds: Callable[[Scaling], bool]) -> Scaling:
        async with asyncio.timeout(5):
            while True:
                await self.news.wait()
                self.news.clear()
                if (scaling := self.autoscaler.told(KEY)) and holds(scaling):
                    return scaling


@pytest.fixture
async def told(pods: Pods) -> AsyncIterator[Told]:
    one = Told(pods)
    yield one
    await one.autoscaler.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("scale")]


def target(*numbers: int, replicas: int = 2) -> Target:
    pods = (Pod(f"risk-{n}", "r", True, False, uid=f"risk-{n}", address=f"127.0.0.{n}") for n in numbers)
    return Target(asked(), replicas, tuple((pod, "http") for pod in pods))


async def test_what_pods_tell_becomes_a_number(pods: Pods, told: Told) -> None:
    pods.behaviours = {
        "127.0.0.1": says("onceserve_inflight_requests 30"),
        "127.0.0.2": says("onceserve_inflight_requests 26"),
    }
    told.autoscaler.want(KEY, target(1, 2))
    scaling = await told.until(lambda each: each.replicas != 2)
    assert (scaling.of, scaling.replicas, scaling.cause) == (2, 7, "56 concurrent requests, 8 each")


@pytest.mark.parametrize("behaviour", [slow, closes, says("onceserve_inflight_requests NaN"), says("", status=500)])
async def test_a_pod_that_tells_nothing_of_use_is_silent(pods: Pods, told: Told, behaviour: Handler) -> None:
    pods.behaviours = {"127.0.0.1": behaviour}
    told.autoscaler.want(KEY, target(1))
    scaling = await told.until(lambda each: each.reason == "SamplesMissing")
    assert (scaling.active, scaling.replicas) == (False, 2)


async def test_what_is_wanted_no_longer_is_forgotten(pods: Pods, told: Told) -> None:
    pods.behaviours = {"127.0.0.1": says("onceserve_inflight_requests 1")}
    told.autoscaler.want(KEY, target(1))
    await told.until(lambda _: True)
    told.autoscaler.want(KEY, None)
    assert told.autoscaler.told(KEY) is None
    assert not told.autoscaler._followed
    await asyncio.sleep(3 * PERIOD)
    calls = pods.calls.total()
    await asyncio.sleep(3 * PERIOD)
    assert pods.calls.total() == calls


def test_what_is_not_done_is_told_again_and_ever_more_rarely() -> None:
    async def story() -> None:
        times: list[float] = []
        calls = AsyncMock(Calls)
        calls.metrics.return_value = "onceserve_inflight_requests 30"
        autoscaler = Autoscaler(lambda _: times.append(asyncio.get_running_loop().time()), calls=calls)
        autoscaler.want(KEY, target(1))
        await asyncio.sleep(300)
        assert times == [0, 2, 4, 6, 10, 18, 34, 66, 126, 186, 246]

    virtual.run(story(), virtual.Loop())
