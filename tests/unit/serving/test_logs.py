import logging
from collections.abc import Iterator

import orjson
import pytest

from onceserve_serving import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


class Request:
    """A request without a trace."""

    request_id = "q-1"
    trace_id = ""


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_record_is_one_line_of_json_with_its_extra_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("a.b").info("ready\non %d", 80, extra={"model": "risk", "what": {1}})
    [line] = lines(capsys)
    assert line.pop("time")
    assert line == {"level": "info", "logger": "a.b", "message": "ready\non 80", "model": "risk", "what": "{1}"}


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "auto")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("a").exception("failed")
    [line] = lines(capsys)
    assert "ZeroDivisionError" in str(line["exception"])


def test_the_level_holds_and_urls_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logging.getLogger("httpx").info("GET https://host/?signature=secret")
    logging.getLogger("a").debug("yes")
    assert [line["message"] for line in lines(capsys)] == ["yes"]
    logs.configure("warning", "json")
    logging.getLogger("a").info("no")
    assert lines(capsys) == []


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logging.getLogger("a").info("ready")
    assert capsys.readouterr().err == "INFO a: ready\n"
    token = logs.request.set(Request())
    logging.getLogger("a").info("failed")
    logs.request.reset(token)
    assert capsys.readouterr().err == "INFO a: failed [q-1]\n"


def test_a_line_names_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    token = logs.request.set(Request())
    logging.getLogger("a").info("failed")
    logs.request.reset(token)
    [line] = lines(capsys)
    assert line["request_id"] == "q-1"
    assert "trace_id" not in line
