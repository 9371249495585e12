"""What is checked: the protocol, mutants with one flaw each, and what must be able to happen."""

from dataclasses import dataclass

TEMPORAL = frozenset({"Answered", "NoStolenRelease"})
"""Properties of behaviours; all others are of states."""


@dataclass(frozen=True)
class Size:
    """How large a model is, and of which kind."""

    specification: str
    calls: int
    symmetric: bool
    prints: int = 2
    attempts: int = 2


# A lasso may not be looked for among states that stand for others, so liveness has all of them.
SAFETY = Size("Spec", calls=3, symmetric=True)
LIVENESS = Size("FairSpec", calls=2, symmetric=False)


@dataclass(frozen=True)
class Model:
    """One run of TLC. With `holds` every property is to hold, else the only one is to be violated."""

    name: str
    properties: tuple[str, ...]
    flaw: str | None = None
    size: Size = SAFETY
    holds: bool = False


PROMISE = ("OneAnswer", "EffectOnce", "AnswerStored", "MismatchRefused", "RunsBounded", "NoStolenRelease")
PROTOCOL = (
    Model("the protocol is safe", PROMISE, holds=True),
    Model("the protocol answers at last", ("Answered",), size=LIVENESS, holds=True),
)


def _mutant(flaw: str, violated: str, size: Size = SAFETY) -> Model:
    return Model(flaw, (violated,), flaw, size)


MUTANTS = (
    _mutant("anything completes", "EffectOnce"),
    _mutant("any state completes", "EffectOnce"),
    _mutant("anybody completes", "OneAnswer"),
    _mutant("loser answers", "OneAnswer"),
    _mutant("loser is not compared", "MismatchRefused"),
    _mutant("respond first", "OneAnswer"),
    _mutant("ledger apart", "EffectOnce"),
    _mutant("store forgets", "OneAnswer"),
    _mutant("unknown is success", "AnswerStored"),
    _mutant("unknown is failure", "OneAnswer"),
    _mutant("anybody releases", "NoStolenRelease"),
    _mutant("number is the fence", "OneAnswer"),
    _mutant("release deletes", "RunsBounded"),
    _mutant("release after a run", "RunsBounded"),
    _mutant("no cap", "RunsBounded"),
    _mutant("completion drops the fingerprint", "MismatchRefused"),
    _mutant("one time to live", "Answered", LIVENESS),
)

REACHED = (
    Model("a run is late and gets the winner's answer", ("NobodyLoses",)),
    Model("an input is taken for poison", ("NobodyIsPoisoned",)),
    Model("a replica dies after it has completed", ("NobodyDiesUnheard",)),
)

MODELS = (*PROTOCOL, *MUTANTS, *REACHED)


def configuration(model: Model) -> str:
    """Return the model as TLC reads it."""
    size = model.size
    temporal = [name for name in model.properties if name in TEMPORAL]
    invariants = [name for name in model.properties if name not in TEMPORAL]
    flaws = f'"{model.flaw}"' if model.flaw else ""
    lines = [
        f"SPECIFICATION {size.specification}",
        "CONSTANTS",
        f"  Calls = {_values('c', size.calls)}",
        f"  Prints = {_values('p', size.prints)}",
        f"  MaxAttempts = {size.attempts}",
        f"  Flaws = {{{flaws}}}",
        *(["SYMMETRY Symmetry"] if size.symmetric else []),
        *([f"INVARIANTS {' '.join(invariants)}"] if invariants else []),
        *([f"PROPERTIES {' '.join(temporal)}"] if temporal else []),
    ]
    return "\n".join(lines) + "\n"


def _values(prefix: str, count: int) -> str:
    return f"{{{', '.join(f'{prefix}{number}' for number in range(1, count + 1))}}}"
