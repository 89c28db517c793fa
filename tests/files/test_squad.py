"""The one SQuAD reader: what it keeps, in French and English, and what it says about a broken file."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomz_haystack.files.squad import SquadAnswer, SquadParagraph, SquadQuestion, read_squad

ENGLISH, FRENCH = "The Loire is 1,006 km long.", "La Loire mesure 1 006 km : un fleuve « long »."


def squad() -> dict[str, Any]:
    """Two articles, one in each language; a question of SQuAD 2.0 without an answer, and one of no text."""
    english = [
        {"id": "a", "question": "How long?", "answers": [{"text": "1,006 km", "answer_start": 13}]},
        {"id": "b", "question": "How deep?", "is_impossible": True, "answers": []},
    ]
    french = [
        {"id": 7, "question": "Combien ?", "answers": [{"text": "1 006 km", "answer_start": 16}] * 2},
        {"id": "d", "question": ""},
    ]
    return {
        "version": "v2.0",
        "data": [
            {"title": "Rivers", "paragraphs": [{"context": ENGLISH, "qas": english}]},
            {"paragraphs": [{"context": FRENCH, "qas": french}, {"context": "Un delta.", "qas": []}]},
        ],
    }


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("loire.json", bytes),
        ("loire.json.gz", gzip.compress),
        ("bom.json", lambda content: b"\xef\xbb\xbf" + content),
        ("bom.json.gz", lambda content: gzip.compress(b"\xef\xbb\xbf" + content)),
    ],
)
def test_every_text_and_offset_is_kept(tmp_path: Path, name: str, packed: Callable[[bytes], bytes]) -> None:
    content = json.dumps(squad(), ensure_ascii=False).encode()
    answer = SquadAnswer("1 006 km", 16)
    found = read_squad(write(tmp_path / name, packed(content)))
    assert found == [
        SquadParagraph(
            "Rivers",
            ENGLISH,
            (
                SquadQuestion("a", "How long?", (SquadAnswer("1,006 km", 13),), False),
                SquadQuestion("b", "How deep?", (), True),
            ),
        ),
        SquadParagraph(
            "", FRENCH, (SquadQuestion("7", "Combien ?", (answer, answer), False), SquadQuestion("d", "", (), False))
        ),
        SquadParagraph("", "Un delta.", ()),
    ]
    for paragraph in found:
        for question in paragraph.questions:
            for text, start in question.answers:
                assert paragraph.context[start : start + len(text)] == text


def changed(key: str, value: object, level: int) -> Callable[[], bytes]:
    """The file with one value changed, in the article, paragraph, question or answer; `None` takes the key away."""

    def content() -> bytes:
        whole = squad()
        article = whole["data"][0]
        question = article["paragraphs"][0]["qas"][0]
        holder = [article, article["paragraphs"][0], question, question["answers"][0]][level]
        holder[key] = value
        if value is None:
            del holder[key]
        return json.dumps(whole).encode()

    return content


PARAGRAPH = "article 1, paragraph 1"
BROKEN: list[tuple[str, bytes | Callable[[], bytes], str]] = [
    ("x.json", b"", "x.json is empty"),
    ("x.json", b'{"data": [', "x.json: not JSON"),
    ("x.json", b"[" * 100_000, "x.json: not JSON"),
    ("x.json", '{"data": "été"}'.encode("latin-1"), r"x.json is not UTF-8 text \(byte 10\): convert the file"),
    ("x.json", '{"data": []}'.encode("utf-16"), "x.json is not UTF-8 text"),
    ("x.json.gz", b'{"data": []}', "x.json.gz is torn or not gzip"),
    ("x.json.gz", gzip.compress(json.dumps(squad()).encode())[:-9], "x.json.gz is torn or not gzip"),
    ("x.json", b"[]", "x.json: expected an object with a list named 'data'"),
    ("x.json", b'{"data": []}', "x.json holds no paragraph"),
    ("x.json", b'{"data": [3]}', "x.json, article 1: expected an object, but got int"),
    ("x.json", changed("paragraphs", None, 0), "x.json, article 1: expected an object with a list named 'paragraphs'"),
    ("x.json", changed("context", None, 1), f"{PARAGRAPH}: expected a text named 'context', but got None"),
    ("x.json", changed("context", 3, 1), f"{PARAGRAPH}: expected a text named 'context', but got 3"),
    ("x.json", changed("qas", {}, 1), f"{PARAGRAPH}: expected an object with a list named 'qas'"),
    ("x.json", changed("question", None, 2), f"{PARAGRAPH}, question 1: expected a text named 'question'"),
    ("x.json", changed("id", " ", 2), f"{PARAGRAPH}, question 1: expected a text named 'id', but got ' '"),
    ("x.json", changed("answers", 3, 2), f"{PARAGRAPH}, question 1: expected an object with a list named 'answers'"),
    ("x.json", changed("text", None, 3), f"{PARAGRAPH}, question 1, answer 1: expected a text named 'text'"),
    (
        "x.json",
        changed("answer_start", "13", 3),
        "answer 1: expected a whole number named 'answer_start', but got '13'",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes | Callable[[], bytes], message: str
) -> None:
    path = write(tmp_path / name, content if isinstance(content, bytes) else content())
    with pytest.raises(ValueError, match=message) as caught:
        read_squad(path)
    assert "\n" not in str(caught.value)


def test_a_folder_or_no_file_is_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(ValueError, match="is not a file"):
            read_squad(path)
