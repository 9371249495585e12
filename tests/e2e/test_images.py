"""The images as a node runs them: another user than root, no capability, a root file system that nobody can write."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import images
from images import buildah, builder
from onceserve_contract import http
from support.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast-cancer"
SITE_PACKAGES = "opt/onceserve/lib/python3.11/site-packages"
# Some 15 % above what they are, in MB.
BUDGETS = {"operator": (33, 157), "server": (78, 253), "store": (9, 22)}
USER = 65532
_numbers = count(1)

# Inside the container there is Python and nothing else to call with.
INFER = """
import json, sys, urllib.request
row = json.loads(sys.argv[2])
tensor = {"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": row}
request = urllib.request.Request(sys.argv[1], json.dumps({"inputs": [tensor]}).encode())
request.add_header("Content-Type", "application/json")
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


@dataclass(frozen=True)
class Image:
    """An image, unpacked from its archive."""

    archive: Path
    root: Path
    config: dict[str, Any]
    workspace: Path

    @contextmanager
    def started(
        self, *arguments: str, mounts: dict[str, Path] | None = None, **environment: str
    ) -> Iterator["Running"]:
        """A container of the image, with its own entry point."""
        command = [*self.config["Entrypoint"], *arguments]
        running = self._start(command, mounts or {}, environment)
        try:
            yield running
        finally:
            running.stop()

    def run(self, *command: str, mounts: dict[str, Path] | None = None, **environment: str) -> tuple[int, str]:
        """Run a command in a container of the image; return its status and output."""
        running = self._start(list(command), mounts or {}, environment)
        try:
            return running.process.wait(30), running.output()
        finally:
            running.stop()

    def _start(self, command: list[str], mounts: dict[str, Path], environment: dict[str, str]) -> "Running":
        name = f"onceserve-image-test-{next(_numbers)}"
        bundle = self.workspace / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._runtime_config(command, mounts, environment)))
        log = (bundle / "log").open("wb")
        call = [*runc(self.workspace), "run", "--bundle", str(bundle), name]
        process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        return Running(name, self.workspace, process, bundle / "log")

    def _runtime_config(self, command: list[str], mounts: dict[str, Path], environment: dict[str, str]) -> Any:
        user, _, group = self.config["User"].partition(":")
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": int(user), "gid": int(group)},
                "args": command,
                "env": [*self.config["Env"], *(f"{name}={value}" for name, value in environment.items())],
                "cwd": self.config.get("WorkingDir") or "/",
                "noNewPrivileges": True,
                "capabilities": {},
            },
            "root": {"path": str(self.root), "readonly": True},
            "hostname": "image-test",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                *(bind(inside, outside) for inside, outside in mounts.items()),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
        }


def bind(inside: str, outside: Path) -> dict[str, Any]:
    return {"destination": inside, "type": "bind", "source": str(outside), "options": ["rbind", "ro"]}


@dataclass(frozen=True)
class Running:
    """A container."""

    name: str
    workspace: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        return self.log.read_text()

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        call = [*runc(self.workspace), "exec", self.name, *command]
        return subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)

    def signal(self, name: str) -> None:
        subprocess.run([*runc(self.workspace), "kill", self.name, name], capture_output=True, check=False)

    def stop(self) -> None:
        self.signal("KILL")
        self.process.wait(10)


def runc(workspace: Path) -> list[str]:
    program = shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/usr/bin:/usr/local/bin")
    assert program, "this test runs containers: install runc (apt-get install runc)"
    return [program, "--root", str(workspace / "runc")]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[buildah.Storage]:
    images.build()
    opened = buildah.open_storage(tmp_path_factory.mktemp("storage"))
    yield opened
    opened.remove()


def call(storage: buildah.Storage, *arguments: str) -> str:
    done = subprocess.run(storage.command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def unpack(storage: buildah.Storage, target: str, workspace: Path) -> Image:
    [archive] = images.build(target)
    container = call(storage, "from", f"oci-archive:{archive}")
    config = json.loads(call(storage, "inspect", "--format", "{{.Config}}", container))["config"]
    return Image(archive, Path(call(storage, "mount", container)), config, workspace)


@pytest.fixture(scope="module")
def server(storage: buildah.Storage, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return unpack(storage, "server", tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def operator(storage: buildah.Storage, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return unpack(storage, "operator", tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def store(storage: buildah.Storage, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return unpack(storage, "store", tmp_path_factory.mktemp("store"))


@pytest.fixture(params=["operator", "server"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(request: pytest.FixtureRequest, target: str) -> Image:
    found: Image = request.getfixturevalue(target)
    return found


def test_the_server_tells_its_version(server: Image) -> None:
    status, output = server.run("onceserve", "--version")
    assert (status, output) == (0, f"onceserve {images.reference('server').rpartition(':')[2]}\n")


def test_the_server_answers_right_and_ends_on_sigterm(server: Image) -> None:
    cases = json.loads((EXAMPLE / "test-set.json").read_text())
    url = f"http://localhost:{http.PORT}/v2/models/model/infer"
    with server.started("serve", "/models/model.onnx", mounts={"/models": EXAMPLE}) as running:
        probe = ("python", "-c", INFER, url.replace("localhost", "127.0.0.1"), json.dumps(cases["rows"][0]))
        answer = eventually(lambda: ready_answer(running, probe), "the first answer")
        [label, *_] = [output["data"] for output in answer["outputs"] if output["name"] == "label"]
        assert label == cases["labels"][:1]
        running.signal("TERM")
        assert running.process.wait(20) == 0, running.output()
    assert "telemetry device" not in running.output()


def ready_answer(running: Running, probe: Sequence[str]) -> Any:
    assert running.process.poll() is None, running.output()
    done = running.execute(*probe)
    return json.loads(done.stdout) if done.returncode == 0 else None


def test_the_server_says_what_setting_is_wrong(server: Image) -> None:
    status, output = server.run("onceserve", "serve")
    assert status == 2
    assert "ONCESERVE_MODEL_URI" in output


def test_the_operator_says_what_setting_is_missing(operator: Image) -> None:
    status, output = operator.run("onceserve-operator")
    missing = ("SERVER_IMAGE", "VERIFICATION_SECRET_FILE", "LEASE_NAMESPACE")
    assert (status, output.splitlines()) == (2, [f"ONCESERVE_OPERATOR_{name}: Field required" for name in missing])


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
"""


def test_the_operator_starts_and_waits_for_the_api_server(operator: Image, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("s" * 32)
    environment = {
        "KUBECONFIG": "/config/config",
        "ONCESERVE_OPERATOR_SERVER_IMAGE": "onceserve/server:test",
        "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE": "/config/secret",
        "ONCESERVE_OPERATOR_LEASE_NAMESPACE": "default",
    }
    with operator.started(mounts={"/config": tmp_path}, **environment) as running:
        eventually(lambda: "127.0.0.1:1" in running.output(), "the first attempt to reach the API server")
        time.sleep(1)
        assert running.process.poll() is None, running.output()


def test_the_store_is_redis_and_nothing_else(store: Image) -> None:
    status, output = store.run("redis-server", "--version")
    assert (status, output.split()[:2]) == (0, ["Redis", "server"]), output
    programs = [path.name for path in (store.root / "usr/bin").iterdir() if not path.is_symlink()]
    assert sorted(programs) == ["redis-check-rdb", "redis-cli"]
    assert store.config["User"] == f"{USER}:{USER}"
    packages = [path.name for path in (store.root / "var/lib/dpkg/status.d").iterdir()]
    assert {"libc6", "redis-server", "redis-tools"} <= set(packages)
    sizes = builder.sizes(store.archive)
    print(sizes)
    assert (sizes.archive < BUDGETS["store"][0] * 10**6, sizes.unpacked < BUDGETS["store"][1] * 10**6) == (True, True)


def test_nothing_runs_as_root_or_can_write(image: Image) -> None:
    script = (
        "import os, pathlib\n"
        "print(os.getuid(), os.getgid())\n"
        "roots = ('/bin', '/etc', '/opt', '/usr', '/var')\n"
        "files = [path for root in roots for path in pathlib.Path(root).rglob('*') if not path.is_symlink()]\n"
        "print(len(files) > 1000, [str(path) for path in files "
        "if os.access(path, os.W_OK) or path.stat().st_mode & 0o6002])"
    )
    status, output = image.run("python", "-c", script)
    assert (status, output) == (0, f"{USER} {USER}\nTrue []\n")


def test_names_are_resolved_and_certificates_trusted(image: Image, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.1.2.3 models.example\n")
    script = (
        "import socket, ssl; print(socket.gethostbyname('models.example'));"
        "print(ssl.create_default_context().cert_store_stats()['x509_ca'] > 100)"
    )
    status, output = image.run("python", "-c", script, mounts={"/etc/hosts": tmp_path / "hosts"})
    assert (status, output) == (0, "10.1.2.3\nTrue\n")


def test_every_module_of_ours_can_be_imported(image: Image, target: str) -> None:
    packages = {"operator": "onceserve_operator", "server": "onceserve_serving"}
    script = (
        "import importlib, pkgutil\n"
        f"for name in ('onceserve_contract', '{packages[target]}'):\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        importlib.import_module(module.name)\n"
    )
    assert image.run("python", "-W", "error::ImportWarning", "-c", script) == (0, "")


@pytest.mark.parametrize("name", ["apt*", "bash", "cc", "dash", "dpkg", "gcc*", "perl*", "pip*", "sh", "su", "uv"])
def test_there_is_no_shell_compiler_or_installer(image: Image, name: str) -> None:
    directories = ("usr/bin", "usr/sbin", "usr/local/bin", "opt/onceserve/bin", "tools")
    assert [path for directory in directories for path in (image.root / directory).glob(name)] == []


def test_there_are_no_installer_s_packages_nor_tests(image: Image) -> None:
    names = {
        "distutils",
        "pip",
        "setuptools",
        "wheel",
        "ensurepip",
        "tests",
        "test",
        "idlelib",
        "f2py",
        "transformers",
        "cache",
    }
    found = [path for path in image.root.rglob("*") if path.is_dir() and path.name in names]
    assert [path for path in found if "dist-info" not in str(path)] == []


def test_each_half_is_alone(operator: Image, server: Image) -> None:
    assert not (operator.root / SITE_PACKAGES / "onnxruntime").exists()
    assert not (operator.root / SITE_PACKAGES / "onceserve_serving").exists()
    assert not (server.root / SITE_PACKAGES / "kopf").exists()
    assert not (server.root / SITE_PACKAGES / "onceserve_operator").exists()


def test_every_source_has_its_bytecode(image: Image) -> None:
    sources = list((image.root / SITE_PACKAGES).rglob("onceserve_*/**/*.py"))
    assert sources
    without = [path for path in sources if not (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()]
    assert without == []


def test_what_every_request_passes_is_compiled(server: Image) -> None:
    status, output = server.run("python", "-c", "import onceserve_serving.pipeline as module; print(module.__file__)")
    assert (status, Path(output.strip()).suffix) == (0, ".so"), output


def test_scanners_find_the_packages_and_people_their_licenses(image: Image) -> None:
    packages = [path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()]
    assert {"libc6", "libssl3", "libstdc++6"} <= set(packages)
    assert not {"apt", "dpkg", "perl-base", "bash"} & set(packages)
    assert (image.root / "usr/share/doc/libc6/copyright").stat().st_size > 0
    [metadata] = (image.root / SITE_PACKAGES).glob("onceserve-*.dist-info")
    assert (metadata / "licenses/LICENSE").exists()


def test_the_image_says_what_it_is(image: Image, target: str) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == images.reference(target).rpartition(":")[2]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"].startswith("OnceServe ")
    assert image.config["User"] == f"{USER}:{USER}"


def test_the_archive_names_the_image_as_pods_mean_it(image: Image, target: str) -> None:
    with tarfile.open(image.archive) as archive:
        index = json.load(archive.extractfile("index.json") or pytest.fail("no index.json"))
    [manifest] = index["manifests"]
    assert manifest["annotations"]["org.opencontainers.image.ref.name"] == images.reference(target)


def test_sizes_are_within_their_budgets(image: Image, target: str) -> None:
    sizes = builder.sizes(image.archive)
    print(target, sizes)
    archive, unpacked = BUDGETS[target]
    assert sizes.archive < archive * 10**6
    assert sizes.unpacked < unpacked * 10**6


def test_a_second_build_takes_well_under_a_second() -> None:
    images.build()
    command = [sys.executable, "-m", "images", "build"]
    environment = {**os.environ, "PYTHONPATH": "hack:hack/cluster"}
    begun = time.monotonic()
    done = subprocess.run(command, cwd=EXAMPLE.parents[1], env=environment, capture_output=True, text=True, check=True)
    assert time.monotonic() - begun < 1
    assert images.reference("server") in done.stdout
    assert done.stderr == ""


def test_a_build_leaves_no_mount_and_no_container() -> None:
    images.build()
    directory = str(builder.directory())
    assert [line for line in Path("/proc/mounts").read_text().splitlines() if directory in line] == []
    storage = buildah.open_storage(builder.directory() / "storage")
    assert call(storage, "containers", "--quiet") == ""
