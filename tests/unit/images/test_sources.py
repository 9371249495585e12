from pathlib import Path

import pytest

from images import sources

TARGETS = ("operator", "server", "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (*sources.COMMON, "operator/onceserve_operator/main.py", "serving/onceserve_contract/http.py"):
        write(tmp_path / name, name)
    write(tmp_path / "serving/onceserve_serving/main.py", "serve")
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def keys(root: Path) -> dict[str, str]:
    return {target: sources.key(target, root=root) for target in TARGETS}


@pytest.mark.parametrize(
    ("changed", "targets"),
    [
        ("Dockerfile", {"operator", "server", "store"}),
        (".dockerignore", {"operator", "server", "store"}),
        ("pyproject.toml", {"operator", "server", "store"}),
        ("uv.lock", {"operator", "server", "store"}),
        ("hack/images/rootfs.py", {"operator", "server", "store"}),
        ("hack/images/hook.py", {"server"}),
        ("serving/onceserve_contract/http.py", {"operator", "server"}),
        ("serving/onceserve_serving/main.py", {"server"}),
        ("operator/onceserve_operator/main.py", {"operator"}),
        ("operator/onceserve_operator/new.py", {"operator"}),
        ("README.md", set()),
        ("hack/images/cli.py", set()),
        ("operator/onceserve_operator/__pycache__/main.cpython-311.pyc", set()),
    ],
)
def test_a_change_gives_new_keys_to_the_images_that_it_is_in(tree: Path, changed: str, targets: set[str]) -> None:
    before = keys(tree)
    write(tree / changed, "changed")
    after = keys(tree)
    assert {target for target in TARGETS if before[target] != after[target]} == targets


def test_a_moved_file_is_a_change(tree: Path) -> None:
    before = sources.key("server", root=tree)
    package = tree / "serving/onceserve_serving"
    (package / "main.py").rename(package / "serve.py")
    assert sources.key("server", root=tree) != before


def test_a_new_mode_is_a_change_and_a_new_time_is_not(tree: Path) -> None:
    before = sources.key("server", root=tree)
    (tree / "uv.lock").touch()
    assert sources.key("server", root=tree) == before
    (tree / "uv.lock").chmod(0o755)
    assert sources.key("server", root=tree) != before


def test_conditions_are_in_the_key(tree: Path) -> None:
    assert sources.key("server", "a", "b", root=tree) != sources.key("server", "ab", "", root=tree)


def test_a_copy_has_the_same_key_and_nothing_else(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(tree / "README.md", "not in an image")
    copied = tmp_path_factory.mktemp("copied")
    sources.copy("operator", copied, tree)
    assert sources.key("operator", root=copied) == sources.key("operator", root=tree)
    assert not (copied / "README.md").exists()
    assert not (copied / "serving/onceserve_serving").exists()


def test_the_key_of_this_checkout_takes_in_the_real_files() -> None:
    found = {file.relative_to(sources.ROOT).as_posix() for file in sources.files("server")}
    assert {*sources.COMMON, "serving/onceserve_serving/main.py", "serving/onceserve_contract/http.py"} <= found
    assert not any("operator" in name or name.endswith(".pyc") for name in found)


def test_docker_sends_what_the_key_is_made_of() -> None:
    """Whoever runs `docker build` here has .dockerignore alone to keep the context small."""
    ignored = (sources.ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    names = [name for names in sources.SOURCES.values() for name in names]
    wanted = {name if (sources.ROOT / name).is_file() else name.partition("/")[0] for name in names}
    assert sent == {*sources.COMMON, *wanted} - {"Dockerfile", ".dockerignore"}
    assert ignored[0] == "*"
    assert {"**/__pycache__", "**/*.pyc"} <= set(ignored)


def test_the_version_is_the_distribution_s(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert sources.version(tmp_path) == "1.2.3"
