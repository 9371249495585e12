from pathlib import Path
from typing import Any

import pytest

from onceserve_contract import environment
from onceserve_serving import cpus, settings
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.main import parser


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(settings.variable_of(field), raising=False)


def test_an_option_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.PORT, "9000")
    monkeypatch.setenv(environment.THREADS, "4")
    read = settings.read({"model_uri": "m.onnx", "port": "9001"})
    assert (read.port, read.threads, read.drain_delay) == (9001, 4, 0.0)


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (environment.PORT, environment.MODEL_SHA256, environment.POD_NAME, environment.TERMINATION_LOG):
        monkeypatch.setenv(name, "")
    read = settings.read({"model_uri": "m.onnx"})
    assert (read.port, read.model_sha256, read.termination_log) == (8080, "", None)
    assert read.pod_name


def test_threads_follow_the_cpu_limit_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "limit", lambda: 3)
    assert settings.read({"model_uri": "m.onnx", "threads": "auto"}).threads == 3
    monkeypatch.setenv(environment.THREADS, "4")
    assert settings.read({"model_uri": "m.onnx"}).threads == 4


def test_models_are_an_option_many_times_and_a_variable_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    options = vars(parser().parse_args(["serve", "--model", "a=/a.onnx", "--model", "b=/b.onnx"]))
    assert settings.read(options).models == ("a=/a.onnx", "b=/b.onnx")
    monkeypatch.setenv("ONCESERVE_MODELS", "a=/a.onnx  c=http://h/c.onnx")
    assert settings.read({}).models == ("a=/a.onnx", "c=http://h/c.onnx")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("risk.onnx", "risk"),
        ("/models/fraud v2.onnx", "fraud-v2"),
        ("file:///models/risk.onnx", "risk"),
        ("https://user:pw@models.example/a/risk.v2.onnx?sig=1", "risk.v2"),
        ("https://models.example/", "model"),
        ("...onnx", "model"),
    ],
)
def test_a_model_is_named_after_its_file(uri: str, name: str) -> None:
    read = settings.read({"model_uri": uri})
    assert read.served_name == name
    assert settings.read({"model_uri": uri, "model_name": "other"}).served_name == "other"
    assert settings.read({"model_uri": uri, "model_name": name}).served_name == name


@pytest.mark.parametrize(
    ("options", "named", "expected"),
    [
        ({}, "MODEL (or ONCESERVE_MODEL_URI)", "expected, and not given"),
        ({"model_uri": ""}, "ONCESERVE_MODEL_URI", "expected a path, file://, http:// or https://"),
        ({"model_uri": "s3://bucket/m.onnx"}, "ONCESERVE_MODEL_URI", "expected a path, file://, http:// or https://"),
        ({"model_uri": "m", "port": "http"}, "--port (or ONCESERVE_PORT)", "valid integer"),
        ({"model_uri": "m", "port": "65536"}, "--port (or ONCESERVE_PORT)", "less than or equal to 65535"),
        ({"model_uri": "m", "threads": "0"}, "--threads (or ONCESERVE_THREADS)", "greater than or equal to 1"),
        ({"models": ["/a.onnx"]}, "--model (or ONCESERVE_MODELS)", "expected NAME=URI"),
        ({"models": ["a=s3://b/c"]}, "--model (or ONCESERVE_MODELS)", "expected NAME=URI"),
        ({"model_uri": "m", "providers": "CPU;"}, "--providers (or ONCESERVE_PROVIDERS)", "match pattern"),
        ({"model_uri": "m", "model_sha256": "abc"}, "--sha256 (or ONCESERVE_MODEL_SHA256)", "match pattern"),
        ({"model_uri": "m", "model_name": "a/b"}, "--name (or ONCESERVE_MODEL_NAME)", "match pattern"),
        ({"model_uri": "m", "drain_delay": "5s"}, "--drain-delay (or ONCESERVE_DRAIN_DELAY)", "valid number"),
        ({"model_uri": "m", "drain_delay": "nan"}, "--drain-delay (or ONCESERVE_DRAIN_DELAY)", ""),
        ({"model_uri": "m", "log_level": "loud"}, "--log-level (or ONCESERVE_LOG_LEVEL)", "'debug', 'info'"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(options: dict[str, Any], named: str, expected: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        settings.read(options)
    assert named in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_setting_never_shows_its_value() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        settings.read({"model_uri": "ftp://user:secret@host/m.onnx", "port": "secret"})
    assert "secret" not in str(caught.value)


def test_the_help_names_every_setting_and_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["serve", "--help"])
    text = capsys.readouterr().out
    for name, field in settings.Settings.model_fields.items():
        assert field.description
        assert settings.option_of(name) in text
        assert settings.variable_of(name) in text


def test_the_termination_log_is_the_one_configured_else_the_kubelets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubelets = tmp_path / "termination-log"
    monkeypatch.setattr(settings, "KUBELET_TERMINATION_LOG", kubelets)
    assert settings.termination_log_from_environment() is None
    kubelets.touch()
    assert settings.termination_log_from_environment() == kubelets
    monkeypatch.setenv(environment.TERMINATION_LOG, "/elsewhere")
    assert settings.termination_log_from_environment() == Path("/elsewhere")
