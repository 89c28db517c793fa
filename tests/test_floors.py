"""The plan of the house: who may import whom, read from the source, so that data never walks back up the page."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGINE = Path("components/haystack_integrations/common/bloomz")
ENGINE_PACKAGE = "haystack_integrations.common.bloomz"

FLOORS = {
    "__init__": 0,
    "forking": 0,
    "int8": 0,
    "int8_choice": 0,
    "int8_kernels": 0,
    "linear": 0,
    "checkpoint": 0,
    "passages": 0,
    "plain_text": 0,
    "whole_files": 0,
    "identity": 0,
    "tokens": 1,
    "packing": 2,
    "attention": 3,
    "prefix_states": 3,
    "prefix_store": 3,
    "prefix_cache": 4,
    "forward": 4,
    "prefix_forward": 4,
    "encoder": 5,
    "prefix_batches": 5,
    "scorer": 5,
    "lease": 6,
}
NAMESPACES = ["", "common", "components", "components/embedders", "components/rankers", "components/retrievers"]
NAMESPACES += ["document_stores"]
LONGEST_FILE = 400


def imports(path: Path, root: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, in full: ``from .a import b`` gives x.a and x.a.b."""
    package = path.relative_to(root).parts[1:-1]  # without the source root
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, *packages: str) -> bool:
    """Whether a module is one of the packages, or inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def engine_faults(root: Path) -> list[str]:
    """Engine files that import from above, or import Haystack, or have no floor."""
    faults = []
    for path in sorted((root / ENGINE).glob("*.py")):
        if path.stem not in FLOORS:
            faults.append(f"{path.name} has no floor: give it one in FLOORS")
            continue
        for module in sorted(imports(path, root)):
            if within(module, "haystack", "haystack_integrations.components", "haystack_integrations.document_stores"):
                faults.append(f"{path.name} imports {module}: the engine knows nothing of Haystack")
            other = module.removeprefix(ENGINE_PACKAGE + ".").split(".")[0]
            if within(module, ENGINE_PACKAGE) and FLOORS.get(other, 0) > FLOORS[path.stem]:
                faults.append(f"{path.name} (floor {FLOORS[path.stem]}) imports {other} (floor {FLOORS[other]})")
    return faults


def room_faults(root: Path) -> list[str]:
    """Components that import the application, and training code that imports Haystack or the command line."""
    rules = {
        "components": ("bloomz_haystack",),
        "pipeline/bloomz_haystack/training": (
            "haystack",
            "typer",
            "haystack_integrations.components",
            "haystack_integrations.document_stores",
            *(f"bloomz_haystack.{room}" for room in ("benchmark", "cli", "indexing", "mining", "terminal")),
        ),
    }
    return [
        f"{path.relative_to(root)} imports {module}"
        for folder, forbidden in rules.items()
        for path in sorted((root / folder).rglob("*.py"))
        for module in sorted(imports(path, root))
        if within(module, *forbidden)
    ]


def namespace_faults(root: Path) -> list[str]:
    """An ``__init__.py`` at a namespace level: it would hide every other Haystack integration."""
    base = root / "components/haystack_integrations"
    return [
        f"{name}/__init__.py stands at a namespace level"
        for name in NAMESPACES
        if (base / name / "__init__.py").exists()
    ]


def length_faults(root: Path) -> list[str]:
    """Source files too long to be read in one go."""
    files = sorted(path for folder in ("components", "pipeline") for path in (root / folder).rglob("*.py"))
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    return [f"{path.name} has {n} lines, more than {LONGEST_FILE}" for path, n in lengths.items() if n > LONGEST_FILE]


def test_the_engine_keeps_its_floors() -> None:
    assert engine_faults(ROOT) == []


def test_rooms_do_not_import_back() -> None:
    assert room_faults(ROOT) == []


def test_namespaces_stay_open() -> None:
    assert namespace_faults(ROOT) == []


def test_files_stay_short() -> None:
    assert length_faults(ROOT) == []


def test_every_floor_exists() -> None:
    assert [name for name in FLOORS if not (ROOT / ENGINE / f"{name}.py").exists()] == []


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        (ENGINE / "tokens.py", "from .encoder import Encoder", "tokens.py (floor 1) imports encoder (floor 5)"),
        (ENGINE / "tokens.py", "from . import forward", "tokens.py (floor 1) imports forward (floor 4)"),
        (
            ENGINE / "packing.py",
            f"def f():\n    import {ENGINE_PACKAGE}.attention",
            "packing.py (floor 2) imports attention",
        ),
        (ENGINE / "scorer.py", "from haystack import Document", "the engine knows nothing of Haystack"),
        (ENGINE / "scorer.py", "if True:\n    import haystack.utils", "the engine knows nothing of Haystack"),
        (ENGINE / "cache.py", "", "cache.py has no floor"),
        (Path("components/haystack_integrations/a.py"), "import bloomz_haystack.cli", "imports bloomz_haystack"),
        (Path("pipeline/bloomz_haystack/training/a.py"), "import typer", "imports typer"),
        (Path("pipeline/bloomz_haystack/training/a.py"), "from ..cli import say", "imports bloomz_haystack.cli"),
        (Path("pipeline/bloomz_haystack/training/a.py"), "from haystack import Document", "imports haystack"),
        (Path("components/haystack_integrations/components/__init__.py"), "", "stands at a namespace level"),
        (Path("pipeline/bloomz_haystack/long.py"), "\n" * 401, "more than 400"),
    ],
)
def test_the_checker_sees_each_fault(tmp_path: Path, file: Path, source: str, fault: str) -> None:
    """Negative control: a tree with one fault."""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    faults = [*engine_faults(tmp_path), *room_faults(tmp_path), *namespace_faults(tmp_path), *length_faults(tmp_path)]
    assert any(fault in found for found in faults), faults


@pytest.mark.parametrize("source", ["from .tokens import tokenize", "import torch", "import haystack_not_ours"])
def test_the_checker_lets_the_rest_pass(tmp_path: Path, source: str) -> None:
    (tmp_path / ENGINE).mkdir(parents=True)
    (tmp_path / ENGINE / "encoder.py").write_text(source)
    assert engine_faults(tmp_path) + room_faults(tmp_path) == []
