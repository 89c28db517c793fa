"""A YAML file against a type: right values come back typed, a wrong one is one line: file, key, what was expected."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bloomz_haystack.files.yaml_schema import check_values, load_yaml

CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=CONFIG)
class Recette:
    """One entry, with every kind of field that the project's files have."""

    kind: Literal["soupe", "tarte"]
    title: str = ""
    minutes: Annotated[int, Field(gt=0)] | None = None
    rate: float = 0.0
    hot: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True, config=CONFIG)
class Carnet:
    """A file of entries."""

    recettes: dict[str, Recette]
    menu: tuple[Recette, ...] = ()


def test_right_values_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "carnet.yaml"
    path.write_text(
        "recettes:\n  oignon: {kind: soupe, title: Soupe à l'oignon, minutes: 40, rate: 1e-3, of: [oignon, pain]}\n"
        "menu: [{kind: tarte, hot: true, rate: 2}]\n",
        encoding="utf-8",
    )
    assert load_yaml(path, Carnet) == Carnet(
        {"oignon": Recette("soupe", "Soupe à l'oignon", 40, 0.001, False, ("oignon", "pain"))},
        (Recette("tarte", hot=True, rate=2.0),),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "recettes: {a: {kind: soupe, titel: x}}",
            "recettes.a: unknown key 'titel' (did you mean 'title'?); known are ",
        ),
        (
            "recettes: {a: {kind: soupe, zzz: x}}",
            "recettes.a: unknown key 'zzz'; known are kind, title, minutes, rate, ",
        ),
        ("recettes: {a: {kind: gateau}}", "recettes.a.kind: expected 'soupe' or 'tarte', but got 'gateau'"),
        ("recettes: {a: {title: x}}", "recettes.a: lacks the key 'kind'"),
        ("recettes: {a: {kind: soupe, minutes: 0}}", "recettes.a.minutes: expected a number greater than 0, but got 0"),
        ("recettes: {a: {kind: soupe, minutes: true}}", "recettes.a.minutes: expected a whole number, but got True"),
        ("recettes: {a: {kind: soupe, minutes: 1.5}}", "recettes.a.minutes: expected a whole number, but got 1.5"),
        ("recettes: {a: {kind: soupe, rate: '3'}}", "recettes.a.rate: expected a number, but got '3'"),
        ("recettes: {a: {kind: soupe, hot: 1}}", "recettes.a.hot: expected true or false, but got 1"),
        ("recettes: {a: {kind: soupe, title: 3}}", "recettes.a.title: expected a text, but got 3"),
        ("recettes: {a: {kind: soupe, of: x}}", "recettes.a.of: expected a list, but got 'x'"),
        ("recettes: {a: {kind: soupe, of: [x, 3]}}", "recettes.a.of.1: expected a text, but got 3"),
        (
            "recettes: {a: soupe}",
            "recettes.a: expected a mapping of kind, title, minutes, rate, hot, of, but got 'soupe'",
        ),
        ("recettes: [a]", "recettes: expected a mapping, but got ['a']"),
        ("recettes: {}\nmenu: [{kind: soupe, hots: true}]", "menu.0: unknown key 'hots' (did you mean 'hot'?)"),
        ("- a", "expected a mapping of recettes, menu, but got ['a']"),
        ("", "lacks the key 'recettes'"),
        ("recettes: {a: {}, b: {}}", "recettes.a: lacks the key 'kind' (and 1 more)"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "carnet.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load_yaml(path, Carnet)
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*rien\.yaml: .*No such file") as caught:
        load_yaml(tmp_path / "rien.yaml", Carnet)
    (broken := tmp_path / "broken.yaml").write_text("a: [\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.yaml") as caught:
        load_yaml(broken, Carnet)
    assert "\n" not in str(caught.value)


def test_long_values_are_cut() -> None:
    with pytest.raises(ValueError, match="but got 'xxx") as caught:
        check_values({"recettes": {"a": "x" * 5000}}, Carnet, "carnet.yaml")
    assert len(str(caught.value)) < 200
