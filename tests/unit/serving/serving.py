"""The server's parts, put together as tests need them."""

from onceserve_serving.catalog import Source
from onceserve_serving.repository import Repository
from onceserve_serving.served import ServedModel


def repository_of(*models: ServedModel) -> Repository:
    """Return a repository of models that are loaded already."""

    async def load(source: Source, model: ServedModel) -> None:
        raise AssertionError((source, model))

    repository = Repository(load)
    for model in models:
        repository.add(model)
    return repository
