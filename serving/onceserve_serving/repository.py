"""The models of this server, by name."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from onceserve_serving.catalog import Source
from onceserve_serving.errors import ModelControlDisabledError, ModelUnavailableError, UnknownModelError
from onceserve_serving.served import ServedModel, State, Terms


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the repository's index."""

    name: str
    version: str
    state: State
    reason: str


Load: TypeAlias = Callable[[Source, ServedModel], Awaitable[None]]
"""Loads a source and installs it; raises ModelUnavailableError."""


class Repository:
    """Finds, loads and unloads models; `sources` tells what can be loaded now."""

    def __init__(
        self,
        load: Load,
        sources: Callable[[], Mapping[str, Source]] = dict,
        terms: Terms | None = None,
        *,
        control: bool = False,
    ) -> None:
        self._load = load
        self._control = control
        self._sources = sources
        self._terms = terms
        self._models: dict[str, ServedModel] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def add(self, model: ServedModel) -> None:
        """Serve a model that something else loads."""
        self._models[model.name] = model

    def expect(self, name: str) -> None:
        """Answer for a model that will be loaded as one that is loading; raises UnknownModelError."""
        source = self._source(name)
        self.add(ServedModel(source.name, source.version, self._terms))

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model; raises UnknownModelError."""
        model = self._models.get(name)
        if model is None:
            raise UnknownModelError(f"there is no model {name[:256]!r} here; {self._listed()}")
        model.check(version)
        return model

    def models(self) -> list[ServedModel]:
        """Return the models that have been asked for."""
        return list(self._models.values())

    def names(self) -> list[str]:
        """Return the names of the models that have been asked for."""
        return list(self._models)

    def queued(self) -> int:
        """Return how many requests wait for their turn, for whatever model."""
        return sum(model.queued for model in self._models.values())

    def aside(self) -> int:
        """Return how many requests gave their place to others while they wait for the store, for whatever model."""
        return sum(model.aside for model in self._models.values())

    def index(self) -> list[Row]:
        """Return all models that are or can be loaded."""
        known = [Row(one.name, one.version, one.state, one.reason) for one in self._models.values()]
        others = [source for name, source in self._sources().items() if name not in self._models]
        return known + [Row(one.name, one.version, State.UNLOADED, "") for one in others]

    def check_control(self) -> None:
        """Raise ModelControlDisabledError unless callers may load and unload models."""
        if not self._control:
            raise ModelControlDisabledError(
                "models cannot be loaded or unloaded here: the server has no --repository and no --allow-model-control"
            )

    async def load(self, name: str) -> None:
        """Load a model, or load it again while the one that is loaded goes on answering.

        Raises UnknownModelError or ModelUnavailableError; what was loaded before then stays.
        """
        source = self._source(name)
        async with self._locks[name]:
            before = self._models.get(name)
            model = ServedModel(source.name, source.version, self._terms)
            if before is None or before.state is not State.READY:
                self.add(model)
            try:
                await self._load(source, model)
            except ModelUnavailableError as error:
                model.fail(str(error))
                raise
            self.add(model)
            if before is not None:
                await before.retire()

    async def unload(self, name: str) -> None:
        """Take no more requests for a model, and return when those that have come are answered.

        Raises UnknownModelError.
        """
        async with self._locks[name]:
            await self.get(name).retire()

    def _source(self, name: str) -> Source:
        source = self._sources().get(name)
        if source is None:
            raise UnknownModelError(f"there is no model {name[:256]!r} to load here; {self._listed()}")
        return source

    def _listed(self) -> str:
        return f"this server serves {', '.join(map(repr, self._models)) or 'none'}"
