"""The files of the page: all in the wheel, in two languages, and nothing in them that a strict browser would refuse."""

import re
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pipeline/bloomz_haystack/service/page"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]


def test_the_wheel_holds_the_page() -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert len(FILES) > 15
    assert {f"bloomz_haystack/service/page/{path.relative_to(FOLDER).as_posix()}" for path in FILES} <= packed


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//cdn|@import", text)


def test_all_that_the_page_names_is_there() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="(?!#|docs")([^"]+)"', html)
    assert len(named) >= 4
    assert all(name.startswith("static/") and (FOLDER / name.removeprefix("static/")).is_file() for name in named)
    shapes = re.findall(r'url\("([^"]+)"\)', (FOLDER / "style.css").read_text(encoding="utf-8"))
    assert len(shapes) == 8
    assert all((FOLDER / shape).is_file() for shape in shapes)
    imported = [name for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8"))]
    assert all((FOLDER / name).is_file() for name in imported)


def test_no_script_or_style_is_inline() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.S) == [""]
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_text_becomes_html(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", text
    )
    assert len(text.splitlines()) <= 250


def test_each_word_stands_in_both_languages() -> None:
    text = (FOLDER / "words.js").read_text(encoding="utf-8")
    english, french = text.split("  en: {")[1].split("  fr: {")
    names = [re.findall(r"^    (\w+):", part.split("\n  },")[0], re.M) for part in (english, french)]
    assert len(names[0]) > 80
    assert names[0] == names[1]
    others = "".join(
        path.read_text(encoding="utf-8") for path in FILES if path.name != "words.js" and path.suffix != ".svg"
    )
    spoken = set(re.findall(r'say\(\s*"(\w+)"', others) + re.findall(r'data-say(?:-\w+)?="(\w+)"', others))
    assert spoken <= set(names[0])
    assert [name for name in names[0] if f'"{name}"' not in others and name not in ("en", "fr")] == []
