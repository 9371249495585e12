import re
from pathlib import Path

import pytest

from modelcheck.models import LIVENESS, MODELS, MUTANTS, PROTOCOL, REACHED, Model, configuration
from modelcheck.tlc import SPECIFICATION

PAGE = Path(__file__).parents[3] / "docs" / "formal.md"


def test_every_flaw_of_the_specification_is_one_mutant() -> None:
    written = set(re.findall(r'Flaw\("([^"]+)"\)', SPECIFICATION.read_text()))
    flaws = [mutant.flaw for mutant in MUTANTS]
    assert set(flaws) == written
    assert len(flaws) == len(written)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_properties_are_those_of_the_specification(model: Model) -> None:
    for name in model.properties:
        assert re.search(rf"^{name} ==", SPECIFICATION.read_text(), re.MULTILINE)


def test_every_promise_is_held_by_the_protocol_and_broken_by_a_mutant() -> None:
    promised = {name for model in PROTOCOL for name in model.properties}
    assert promised >= {name for mutant in MUTANTS for name in mutant.properties}
    assert promised - {name for mutant in MUTANTS for name in mutant.properties} == set()


def test_only_the_protocol_holds_and_only_mutants_have_flaws() -> None:
    assert [model for model in MODELS if model.holds] == list(PROTOCOL)
    assert [model for model in MODELS if model.flaw] == list(MUTANTS)
    assert all(len(model.properties) == 1 for model in (*MUTANTS, *REACHED))


def test_a_mutant_is_the_protocol_with_one_flaw_and_one_property() -> None:
    assert configuration(Model("x", ("OneAnswer",), flaw="respond first")) == (
        "SPECIFICATION Spec\n"
        "CONSTANTS\n"
        "  Calls = {c1, c2, c3}\n"
        "  Prints = {p1, p2}\n"
        "  MaxAttempts = 2\n"
        '  Flaws = {"respond first"}\n'
        "SYMMETRY Symmetry\n"
        "INVARIANTS OneAnswer\n"
    )


def test_liveness_is_checked_without_symmetry_and_under_fairness() -> None:
    text = configuration(Model("x", ("Answered",), size=LIVENESS))
    assert text.startswith("SPECIFICATION FairSpec\n")
    assert "  Flaws = {}\n" in text
    assert text.endswith("PROPERTIES Answered\n")
    assert "SYMMETRY" not in text


def test_the_page_has_every_mutant_with_what_it_breaks() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (\w+) \| \d+ \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(mutant.flaw, mutant.properties[0]) for mutant in MUTANTS]
