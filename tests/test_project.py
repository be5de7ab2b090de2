"""The rules of the house, executed: boundaries, sizes, names, locks, and documents that point at what exists."""

import ast
import fnmatch
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "adatape", "export", "loadtest")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_MEDIAN_LINES = 10
MAX_P90_LINES = 30


def git_files() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def functions(package: str) -> Iterator[tuple[str, int]]:
    """Give each function of a package with its number of lines."""
    for path in python_files(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


# --- Boundaries ------------------------------------------------------------------------------


def test_importing_the_app_brings_in_no_training_code() -> None:
    found = run_python(
        "import sys, server.app; print(sorted({'torch', 'onnx', 'onnxscript', 'adatape', 'export'} & set(sys.modules)))"
    )
    assert (found.stdout.strip(), found.returncode) == ("[]", 0), found.stderr


def test_import_contracts_hold() -> None:
    linted = run_python("from importlinter.cli import lint_imports_command as run; run(['--no-cache'])")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", linted.stdout)


CODE = (*PACKAGES, "benchmarks", "monitoring", "tests")
REWRITTEN_SOON = re.compile(r"server\.(engine|scheduler|budget|controller)\b")


def imports(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """Return which modules of these packages each of them imports, at any place, for type checking too."""
    paths = chain.from_iterable((root / package).rglob("*.py") for package in packages)
    names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & names.keys()
            elif isinstance(node, ast.ImportFrom):
                both = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
                found[name] |= {inner if inner in names else outer for inner, outer in both} & names.keys()
    return found


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_form_a_circle() -> None:
    graph = imports(ROOT, CODE)
    assert len(graph["server.__main__"]) > 10
    soon = {name for name in graph if REWRITTEN_SOON.match(name)}
    assert find_circle({name: found - soon if name in soon else found for name, found in graph.items()}) == []


@pytest.mark.parametrize("line", ["from a.two import x", "from a import two", "import a.two", "    import a.two"])
def test_a_circle_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.py").write_text(f"if TYPE_CHECKING:\n{line}\n" if line[0] == " " else line)
    (tmp_path / "a/two.py").write_text("import os\n")
    assert find_circle(imports(tmp_path, ["a"])) == []
    (tmp_path / "a/two.py").write_text("import os\nfrom a.one import y\n")
    assert set(find_circle(imports(tmp_path, ["a"]))) == {"a.one", "a.two"}


# --- Sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_short(package: str) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files(package)}
    assert lengths, f"{package} has no modules"
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    assert {name: length for name, length in functions(package) if length > MAX_FUNCTION_LINES} == {}


def test_most_functions_are_very_short() -> None:
    lengths = [length for _, length in chain.from_iterable(functions(package) for package in PACKAGES)]
    assert statistics.median(lengths) <= MAX_MEDIAN_LINES
    assert statistics.quantiles(lengths, n=10)[-1] <= MAX_P90_LINES


# --- Names -----------------------------------------------------------------------------------

MACHINE = re.compile(
    r"(?<![\w.$}])/(?:work|root|home(?!/someone/)|tmp|Users)/\w"
    r"|\.\./shared"
    r"|/opt/(?:pypi|wheels)"
    r"|--(?:extra-)?index[-_]url\b|--find[-_]links\b"
    r"|https?://[^\s/]*/(?:[^\s/]+/)*simple\b"
)
AVOIDED_WORDS = {
    "act_epsilon": [
        "adatape/config.py",
        "adatape/flax_params.py",
        "adatape/golden*",
        "tests/adatape/*golden*",
        "tests/adatape/oracle.py",
        "tests/test_project.py",
    ]
}
TEXT = {"", ".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".json", ".pbtxt", ".html", ".css", ".js", ".sh"}


def text_files() -> Iterator[tuple[str, str]]:
    for name in git_files():
        if Path(name).suffix in TEXT:
            yield name, (ROOT / name).read_text(encoding="utf-8")


def test_no_file_names_a_machine_or_a_package_index() -> None:
    found = [f"{name}: {match.group()}" for name, text in text_files() for match in MACHINE.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "parts", [("", "home", "me"), ("..", "shared"), ("", "tmp", "x"), ("http:", "", "x", "simple")]
)
def test_machine_paths_are_recognised(parts: tuple[str, ...]) -> None:
    assert MACHINE.search("/".join(parts))


def test_avoided_words_stay_where_they_are_explained() -> None:
    found = [
        f"{name}: {word}"
        for name, text in text_files()
        for word, allowed in AVOIDED_WORDS.items()
        if word in text and not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)
    ]
    assert found == []


# --- Documents -------------------------------------------------------------------------------

LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / name for name in git_files() if name.endswith(".md")]
    links = [(document, target) for document in documents for target in LINK.findall(document.read_text())]
    assert links
    assert [f"{doc.relative_to(ROOT)}: {target}" for doc, target in links if not (doc.parent / target).exists()] == []


def test_the_architecture_names_every_server_module_and_no_other() -> None:
    section = (ROOT / "docs/architecture.md").read_text().split("## The modules of `server`")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
    modules = {path.stem for path in (ROOT / "server").glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / "server").glob("*/__init__.py")}
    assert named == modules | packages


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [int(path.name[:4]) for path in (ROOT / "docs/adr").glob("*.md")]
    assert numbers
    assert len(set(numbers)) == len(numbers)


# --- Locks and image -------------------------------------------------------------------------

LOCKS = ("server", "gpu", "client", "train", "dev", "triton")


def names(path: str) -> set[str]:
    """Return the packages that a requirements file names, in canonical spelling."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)", (ROOT / "requirements" / path).read_text(), flags=re.MULTILINE)
    return {canonical(name) for name in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_is_locked(lock: str) -> None:
    assert names(f"{lock}.in")
    assert names(f"{lock}.in") <= names(f"{lock}.txt")


ASKED = {"server": ("server.in",), "adatape": ("server.in", "train.in", "torch.txt")}
ASKED |= {"export": ASKED["adatape"], "loadtest": ("client.in",)}
BROUGHT_BY_TRITON = {"triton_python_backend_utils"}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_asked_for(package: str) -> None:
    owners = packages_distributions()
    asked = set().union(*(names(path) for path in ASKED[package]))
    # `google` is a namespace of several packages: one of a name's owners must be asked for.
    unasked = [
        name
        for name in external_imports(package)
        if asked.isdisjoint(canonical(owner) for owner in owners.get(name, [name]))
    ]
    assert unasked == []


def external_imports(package: str) -> set[str]:
    """Return the top-level names that a package imports and that are neither ours nor Python's."""
    found = set()
    for path in python_files(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - set(PACKAGES) - BROUGHT_BY_TRITON


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_exact_and_hashed(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    for entry in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        exact = r"[a-z0-9._-]+(\[[a-z0-9, -]+\])?==\S+ (;.*)?\\\n +--hash=sha256:[0-9a-f]{64}"
        assert re.match(exact, entry), entry.splitlines()[0]


def test_the_server_needs_no_training_packages() -> None:
    for lock in ("server.txt", "gpu.txt"):
        assert names(lock).isdisjoint({"torch", "onnx", "onnxscript", "scikit-learn"})


def test_one_build_of_onnxruntime_is_installed_with_all_else_the_same() -> None:
    builds = {lock: names(f"{lock}.txt") & {"onnxruntime", "onnxruntime-gpu"} for lock in LOCKS}
    assert builds["gpu"] == {"onnxruntime-gpu"}
    assert all(build <= {"onnxruntime"} for lock, build in builds.items() if lock != "gpu")
    cpu, gpu = pins("server.txt"), pins("gpu.txt")
    assert {name: pin for name, pin in cpu.items() if gpu.get(name) != pin} == {"onnxruntime": cpu["onnxruntime"]}


def pins(path: str) -> dict[str, str]:
    """Return the version that a lock fixes for each package."""
    text = (ROOT / "requirements" / path).read_text()
    return dict(re.findall(r"^([a-z0-9][\w.-]*)(?:\[[^]]*\])?==(\S+)", text, flags=re.MULTILINE))


def test_the_image_takes_only_what_serving_needs() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert set(copied) == {"model_repository", "requirements/server.txt", "requirements/gpu.txt", "server"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(copied)


def test_the_image_stands_on_one_exact_base() -> None:
    text = (ROOT / "Dockerfile").read_text()
    default = re.search(r"^ARG BASE=(\S+)$", text, flags=re.MULTILINE)
    assert default, "a builder who pins a digest sets it"
    stages = re.findall(r"^FROM (\S+) AS (\w+)", text.replace("${BASE}", default[1]), flags=re.MULTILINE)
    names_of_stages = {name for _, name in stages}
    (base,) = (image for image, _ in stages if image not in names_of_stages)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert stages[-1][1] == "cpu"


def glossary_rows() -> list[tuple[set[str], str]]:
    """Return the words in code style of each row of the glossary, and its last column."""
    rows = [line.split("|") for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("|")]
    return [(set(re.findall(r"`(\w+)`", cells[1])), cells[-2]) for cells in rows if len(cells) > 3]


def test_the_glossary_has_every_public_class_of_the_server_and_its_file() -> None:
    rows = glossary_rows()
    assert len(rows) > 80
    missing = [
        f"{name} of {path.relative_to(ROOT)}"
        for path in sorted((ROOT / "server").rglob("*.py"))
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), re.MULTILINE)
        if not any(name in words and f"`{path.relative_to(ROOT)}`" in places for words, places in rows)
    ]
    assert missing == []


def test_every_file_that_the_glossary_names_is_there() -> None:
    named = re.findall(r"`((?:server|adatape|export|loadtest)/[\w/.]+)`", (ROOT / "docs/glossary.md").read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
