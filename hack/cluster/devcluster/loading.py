"""Brings images into the nodes."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster import binaries
from devcluster.errors import ClusterError
from devcluster.images import Image, key, read_images
from devcluster.node import Node

# Where the kubelet's images are.
NAMESPACE = "k8s.io"


def keep(archive: Path, directory: Path) -> Path:
    """Keep the archive, in place of older ones of its images, for nodes that start later; return the copy."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / f"{key(archive)}.tar"
    if not kept.exists():
        draft = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(archive, draft)
        draft.rename(kept)
    for older in set(directory.glob("*.tar")) - {kept}:
        if _names(older) <= _names(kept):
            older.unlink()
    return kept


def _names(archive: Path) -> set[str]:
    return {image.name for image in read_images(archive)}


def load(nodes: Sequence[Node], archives: Sequence[Path]) -> None:
    """Import into every node, all at once, what it does not have."""
    with loading(nodes, archives):
        pass


@contextlib.contextmanager
def loading(nodes: Sequence[Node], archives: Sequence[Path]) -> Iterator[None]:
    """Import into every node while the block runs, and wait for it at the block's end."""
    imports = [(node, archive) for node in nodes for archive in _missing(node, archives)]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_start_import(node, archive)) for node, archive in imports]
        try:
            yield
        except BaseException:
            for process in running:
                process.kill()
            raise
        for (node, archive), process in zip(imports, running, strict=True):
            output, _ = process.communicate()
            if process.returncode != 0:
                raise ClusterError(f"{node.name} could not import {archive}:\n{output}")


def _missing(node: Node, archives: Sequence[Path]) -> list[Path]:
    present = images_in(node)
    return [archive for archive in archives if not present.issuperset(read_images(archive))]


def images_in(node: Node) -> set[Image]:
    """Return what a node has."""
    result = subprocess.run(_ctr(node, "ls"), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"{node.name} does not list its images:\n{result.stderr}")
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    return {Image(row[0], row[2]) for row in rows}


def _start_import(node: Node, archive: Path) -> "subprocess.Popen[str]":
    command = _ctr(node, "import", archive)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _ctr(node: Node, *arguments: str | Path) -> list[str | Path]:
    return [binaries.find("ctr"), "--address", node.socket, "--namespace", NAMESPACE, "images", *arguments]
