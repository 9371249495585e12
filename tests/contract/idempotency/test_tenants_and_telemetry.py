"""Keys belong to their caller; what becomes of them is counted, and told to nobody else."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from contract.idempotency.dice import KEY, PATH, ask, body, is_replay, new_key
from contract.idempotency.fleet import ECHO, Fleet, begun, callers, executions, outcomes
from contract.serving.process import row, until
from contract.serving.test_departures import metric
from contract.serving.zygote import Zygote
from onceserve_serving.auth import keys
from support.databases import Redis

ANN, BEN = keys.new_key(), keys.new_key()
LONG = 60_000
PASSWORD = "pass-8c1f27"
SECRET = "secret-0123456789abcdef"
VALUE = 7_182_818
"""What is asked, which no log shows."""


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.txt"
    file.write_text(f"{keys.line_of(ANN, 'ann')}\n{keys.line_of(BEN, 'ben')}\n")
    return file


def test_tenants_do_not_share_keys(fleet: Fleet, keys_file: Path) -> None:
    server = fleet.start("--api-keys", str(keys_file))
    key = new_key()
    with callers(server) as [caller]:
        of_ann, of_ben = ask(caller, key, **{"X-API-Key": ANN}), ask(caller, key, **{"X-API-Key": BEN})
        other = ask(caller, key, 1, **{"X-API-Key": BEN})
        again = ask(caller, key, Authorization=f"Bearer {ANN}")
        assert ask(caller, key).status_code == 401
    assert (of_ann.status_code, of_ben.status_code, other.status_code) == (200, 200, 422)
    assert not is_replay(of_ann)
    assert not is_replay(of_ben)
    assert of_ann.content != of_ben.content
    assert (again.content, is_replay(again)) == (of_ann.content, True)


def test_tenants_of_one_key_do_not_meet(file_fleet: Fleet, keys_file: Path) -> None:
    server = file_fleet.start("--api-keys", str(keys_file))
    key = new_key()
    with callers(server) as [caller], ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, caller, key, LONG, **{"X-API-Key": tenant}) for tenant in (ANN, BEN)]
        of_ann, of_ben = [one.result() for one in asked]
    assert of_ann.content != of_ben.content
    assert executions(server) == 2


def test_each_request_with_a_key_is_counted_once(file_fleet: Fleet) -> None:
    lease = ("--idempotency-lease", "1")
    server, other = file_fleet.start(*lease), file_fleet.start(*lease)
    first, meanwhile = new_key(), new_key()
    with callers(server, other) as [caller, elsewhere], ThreadPoolExecutor(2) as pool:
        for work in (0, 0, 0, 1, 1):
            ask(caller, first, work)
        running = pool.submit(ask, elsewhere, meanwhile, LONG)
        until(lambda: begun(other) == 1, "it runs elsewhere")
        ask(caller, meanwhile, LONG)
        other.signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            running.result()
        asked = [pool.submit(ask, caller, meanwhile, LONG, Prefer="wait=20") for _ in range(2)]
        assert {one.result().status_code for one in asked} == {200}
        assert ask(caller, new_key()).status_code == 200
        caller.post(PATH, json=body())
    counted = {"first": 2, "replayed": 2, "mismatch": 2, "in_progress": 1, "taken_over": 1, "coalesced": 1}
    assert {outcome: outcomes(server, outcome) for outcome in counted} == counted
    assert metric(server, "onceserve_idempotency_total") == sum(counted.values()) == 9


@pytest.fixture
def secured(zygote: Zygote, tmp_path: Path) -> Iterator[tuple[Redis, Fleet]]:
    with Redis("--requirepass", PASSWORD) as redis:
        url = redis.url.replace("//", f"//:{PASSWORD}@")
        with Fleet(zygote, tmp_path, f"{url}?timeout=0.5") as fleet:
            yield redis, fleet


def test_logs_tell_no_key_no_body_and_no_secret(secured: tuple[Redis, Fleet], keys_file: Path) -> None:
    redis, fleet = secured
    (keys_file.parent / "secret").write_text(f"{SECRET}\n")
    options = ("--api-keys", str(keys_file), "--idempotency-secret", str(keys_file.parent / "secret"))
    server = fleet.start(*options, "--access-log", "--log-level", "debug", "--idempotency-lease", "1")
    key, lost = new_key(), new_key()
    echoed = row("x", "FP32", [VALUE] * 3, [1, 3])
    with callers(server) as [caller], ThreadPoolExecutor(1) as pool:
        for asked in (echoed, echoed, row("x", "FP32", [VALUE] * 6, [2, 3])):
            caller.post(f"/v2/models/{ECHO}/infer", json=asked, headers={KEY: key, "X-API-Key": ANN})
        running = pool.submit(ask, caller, lost, LONG, **{"X-API-Key": ANN})
        until(lambda: begun(server) == 2, "it runs")
        redis.kill()
        assert running.result().status_code == 503
        assert ask(caller, new_key(), **{"X-API-Key": ANN}).status_code == 503
    log = server.log()
    assert "the store of idempotency failed" in log
    for secret in (key, lost, PASSWORD, SECRET, str(VALUE), ANN):
        assert secret not in log
    assert re.search(r'"tenant":\s*"ann"', log)


def test_the_store_tells_no_key_and_no_tenant(secured: tuple[Redis, Fleet], keys_file: Path) -> None:
    redis, fleet = secured
    key = new_key()
    with callers(fleet.start("--api-keys", str(keys_file))) as [caller]:
        assert ask(caller, key, VALUE % 1000, **{"X-API-Key": ANN}).status_code == 200
    redis.stop()
    kept = b"".join(file.read_bytes() for file in sorted(redis.directory.rglob("*.aof")))
    assert kept
    assert key.encode() not in kept
    assert ANN.encode() not in kept
