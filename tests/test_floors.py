"""The plan of the house, read from the source: data walks down the page and never back up."""

import ast
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("components", "pipeline")
ENGINE = "haystack_integrations.common.bloomz"
STORE = "haystack_integrations.document_stores.qdrant_edge"
COMPONENTS = "haystack_integrations.components"
APP = "bloomz_haystack"

# A room is a package or a file; it may import rooms that stand before it, and itself.
ROOMS = [
    f"{ENGINE}",
    f"{STORE}",
    "haystack_integrations.document_stores.bloomz_pgvector",
    f"{COMPONENTS}",
    f"{APP}.settings",
    f"{APP}.files",
    f"{APP}.models",
    *(
        f"{APP}.training.{wing}"
        for wing in ("kinds", "config", "team", "data", "objectives", "run", "base", "tiny", "model", "train")
    ),
    f"{APP}.training",
    f"{APP}.mining",
    f"{APP}.pipelines",
    f"{APP}.steps",
    f"{APP}.roles",
    f"{APP}.batch_run",
    f"{APP}.store_folder",
    f"{APP}.stores",
    f"{APP}.indexing",
    f"{APP}.cluster",
    f"{APP}.answering",
    f"{APP}.batch",
    f"{APP}.benchmark",
    f"{APP}.service",
    f"{APP}.cli",
    f"{APP}.__main__",
    APP,
]
# What a room must not import at all, so that it runs where that is not installed.
FORBIDDEN = {
    ENGINE: ("haystack",),
    f"{APP}.training": ("haystack", "typer", "rich", "haystack_integrations.components", STORE),
}
HAYSTACK_AWARE = {f"{ENGINE}.component"}
OWN_IN_EACH_FILE = {"logger", "main"}
NAMESPACES = ["", "common", "components", "components/embedders", "components/rankers", "components/retrievers"]
NAMESPACES += ["components/readers", "document_stores"]
LONGEST_FILE = 400


def modules(root: Path) -> dict[str, Path]:
    """Return every module of both source roots by its full name."""
    return {
        ".".join(path.relative_to(root / source).with_suffix("").parts).removesuffix(".__init__"): path
        for source in SOURCES
        for path in sorted((root / source).rglob("*.py"))
    }


def imports(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return what a file imports, wherever in the file: modules of ours by their full name, others as written."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            inner = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {name if name in known else origin for name in inner}
    return found - {module}


def within(module: str, *packages: str) -> bool:
    """Whether a module is one of the packages, or inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def room_of(module: str) -> int | None:
    """Return the floor of the room that a module stands in."""
    return next((floor for floor, room in enumerate(ROOMS) if within(module, room)), None)


def arrow_faults(root: Path) -> list[str]:
    """Return imports of a room that stands later, modules without a room, and imports that a room must do without."""
    known, faults = modules(root), []
    for module, path in known.items():
        here = room_of(module)
        if here is None:
            faults.append(f"{module} stands in no room: give it one in ROOMS")
            continue
        for other in sorted(imports(module, path, known)):
            there = room_of(other)
            if there is not None and there > here and other != APP:
                faults.append(f"{module} imports {other}, which stands above it")
            for room, forbidden in FORBIDDEN.items() if module not in HAYSTACK_AWARE else ():
                if within(module, room) and within(other, *forbidden):
                    faults.append(f"{module} imports {other}: {room} must run without it")
    return faults


def circle_faults(root: Path) -> list[str]:
    """Return modules that import one another in a circle: what is left when the ends of every chain are taken away."""
    known = modules(root)
    waiting = {module: imports(module, path, known) & set(known) for module, path in known.items()}
    for module in waiting:  # a package that gathers its own modules is no circle
        waiting[module] -= {package for package in known if within(module, package)}
    while True:
        imported = set().union(*waiting.values())
        ends = {module for module, others in waiting.items() if module not in imported or not others & set(waiting)}
        if not ends:
            break
        waiting = {module: others - ends for module, others in waiting.items() if module not in ends}
    return [f"{module} imports in a circle" for module in sorted(waiting)]


def name_faults(root: Path) -> list[str]:
    """Return public names that two files define at their top level."""
    places = defaultdict(set)
    for module, path in modules(root).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            named = [target.id for target in targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                named = [node.name]
            for name in named:
                places[name].add(module)
    return [
        f"{name} is defined in {' and '.join(sorted(found))}"
        for name, found in sorted(places.items())
        if len(found) > 1 and not name.startswith("_") and name not in OWN_IN_EACH_FILE
    ]


def namespace_faults(root: Path) -> list[str]:
    """Return each `__init__.py` at a namespace level: it would hide every other Haystack integration."""
    base = root / "components/haystack_integrations"
    return [
        f"{name}/__init__.py stands at a namespace level"
        for name in NAMESPACES
        if (base / name / "__init__.py").exists()
    ]


def length_faults(root: Path) -> list[str]:
    """Return source files too long to be read in one go."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(root).values()}
    return [f"{path.name} has {n} lines, more than {LONGEST_FILE}" for path, n in lengths.items() if n > LONGEST_FILE]


FAULTS = [arrow_faults, circle_faults, name_faults, namespace_faults, length_faults]


@pytest.mark.parametrize("faults", FAULTS)
def test_the_house_keeps_its_plan(faults: Callable[[Path], list[str]]) -> None:
    assert faults(ROOT) == []


def test_every_room_exists() -> None:
    known = modules(ROOT)
    rooms = [room for room in ROOMS if not any(within(module, room) for module in known)]
    assert rooms == []


ENGINE_FOLDER = Path("components") / ENGINE.replace(".", "/")
TRAINING = Path("pipeline/bloomz_haystack/training")


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        (ENGINE_FOLDER / "tokens.py", f"from {STORE} import shard", f"imports {STORE}, which stands above it"),
        (ENGINE_FOLDER / "tokens.py", f"def f():\n    import {STORE}", f"imports {STORE}, which stands above it"),
        (ENGINE_FOLDER / "scorer.py", "from haystack import Document", "must run without it"),
        (ENGINE_FOLDER / "scorer.py", "if True:\n    import haystack.utils", "must run without it"),
        (Path("components/haystack_integrations/other/a.py"), "", "stands in no room"),
        (Path("components/haystack_integrations/components/a.py"), f"import {APP}.cli", "stands above it"),
        (TRAINING / "a.py", "import typer", "must run without it"),
        (TRAINING / "a.py", "from ..cli import say", "stands above it"),
        (TRAINING / "a.py", "from haystack import Document", "must run without it"),
        (TRAINING / "data/a.py", "from haystack import Document", "must run without it"),
        (TRAINING / "data/a.py", f"import {APP}.training.run.loop", "stands above it"),
        (Path("pipeline/bloomz_haystack/mining/a.py"), f"from {APP}.benchmark import b", "stands above it"),
        (TRAINING / "a.py", f"from {APP}.training import a as b, c\nfrom {APP}.training.c import d", ""),
        (Path("components/haystack_integrations/components/__init__.py"), "", "stands at a namespace level"),
        (Path("pipeline/bloomz_haystack/cli/long.py"), "\n" * 401, "more than 400"),
    ],
)
def test_the_checker_sees_each_fault(tmp_path: Path, file: Path, source: str, fault: str) -> None:
    """Negative control: a tree with one fault."""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    faults = [fault for check in FAULTS for fault in check(tmp_path)]
    assert any(fault in found for found in faults) if fault else faults == []


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (f"from {APP}.training import b", f"from {APP}.training.a import c", "imports in a circle"),
        ("from . import b", "def f():\n    from .a import c", "imports in a circle"),
        ("def rows(): ...", "class rows: ...", "rows is defined in"),
        ("LONGEST = 1", "LONGEST: int = 2", "LONGEST is defined in"),
    ],
)
def test_the_checker_sees_faults_of_two_files(tmp_path: Path, first: str, second: str, fault: str) -> None:
    (tmp_path / TRAINING).mkdir(parents=True)
    (tmp_path / TRAINING / "a.py").write_text(first)
    (tmp_path / TRAINING / "b.py").write_text(second)
    assert any(fault in found for check in FAULTS for found in check(tmp_path))


@pytest.mark.parametrize("source", ["from .packing import pack", "import torch", "import haystack_not_ours"])
def test_the_checker_lets_the_rest_pass(tmp_path: Path, source: str) -> None:
    (tmp_path / ENGINE_FOLDER).mkdir(parents=True)
    (tmp_path / ENGINE_FOLDER / "encoder.py").write_text(source)
    assert [fault for check in FAULTS for fault in check(tmp_path)] == []
