"""A release of another version, made of the sources as they are: its operator's image and its chart."""

from pathlib import Path

from devcluster.files import locked
from images import buildah, builder, docker, sources
from images.request import Request
from support.helm import CHART, Helm

OPERATOR = "operator"


def operator_image(version: str, directory: Path) -> Path:
    """Build the operator of another version; return its OCI archive."""
    context = directory / "context"
    sources.copy(OPERATOR, context)
    project = context / "pyproject.toml"
    line = '\nversion = "{}"\n'.format
    project.write_text(project.read_text().replace(line(sources.version()), line(version)))
    assert sources.version(context) == version
    reference = f"docker.io/onceserve/{OPERATOR}:{version}"
    request = Request(OPERATOR, context, reference, version, None, directory / "image.tar", directory / "log")
    with locked(builder.directory() / "lock"):
        if builder.choose("auto") == "docker":
            docker.build(request)
        else:
            buildah.build(request, builder.directory() / "storage")
    return request.archive


def chart(version: str, directory: Path, helm: Helm) -> Path:
    """Package the chart of another version; return the archive."""
    helm("package", CHART, f"--version={version}", f"--app-version={version}", f"--destination={directory}")
    return directory / f"onceserve-{version}.tgz"
