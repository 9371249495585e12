import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from onceserve_operator import main
from onceserve_operator.errors import StoppedError

NESTED = """
import json
from onceserve_operator.main import allow_nesting
allow_nesting()
for before, after in ("[", "]"), ('{"a":', "}"):
    json.loads(before * 10_010 + "1" + after * 10_010)
def endless(number):
    return sorted([number], key=lambda each: endless(each + 1))
try:
    endless(0)
except RecursionError:
    print("an error")
"""


def test_what_is_nested_as_an_api_server_allows_is_read_and_endless_calls_do_not_kill() -> None:
    """In a process of its own: the limits are those of a process."""
    ended = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "an error\n"), ended.stderr


async def fails() -> None:
    raise LookupError("a kind is not there")


async def ends() -> None:
    return


@pytest.mark.parametrize(
    ("part", "words"), [(fails, "has failed: LookupError: a kind is not there"), (ends, "has ended")]
)
async def test_a_part_that_goes_on_no_more_is_an_error(part: Callable[[], Awaitable[None]], words: str) -> None:
    with pytest.raises(StoppedError) as caught:
        await main._unending("the watch", part())
    assert str(caught.value) == f"the watch {words}"


async def test_a_part_that_is_cancelled_is_none() -> None:
    part = asyncio.create_task(main._unending("the watch", asyncio.sleep(60)))
    await asyncio.sleep(0)
    part.cancel()
    with pytest.raises(asyncio.CancelledError):
        await part


def test_failures_are_told_each_in_words() -> None:
    failures = ExceptionGroup("both", [StoppedError("the watch has ended"), LookupError("a kind is not there")])
    assert list(main._words(failures)) == ["the watch has ended", "LookupError: a kind is not there"]
