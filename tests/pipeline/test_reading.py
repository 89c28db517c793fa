"""Files -> documents -> passages: what is found, what is read, what is named as broken."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from haystack import Document

from bloomz_haystack.indexing.files import Note, Problem, find_files
from bloomz_haystack.indexing.passages import Splitter
from bloomz_haystack.indexing.texts import read_file

FRENCH, ENGLISH = "Le café coûte deux euros à l’étranger.", "The coffee costs two euros abroad."


def read(path: Path) -> list[Document | Problem | Note]:
    return [reading.outcome for reading in read_file(path)]


def only_document(path: Path) -> Document:
    (outcome,) = read(path)
    assert isinstance(outcome, Document), outcome
    return outcome


def only_reason(path: Path) -> str:
    (outcome,) = read(path)
    assert isinstance(outcome, Problem), outcome
    assert outcome.file == str(path)
    return outcome.reason


@pytest.mark.parametrize("text", [FRENCH, ENGLISH])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".TXT"])
def test_text_is_read_in_every_usual_encoding(tmp_path: Path, text: str, encoding: str, suffix: str) -> None:
    file = tmp_path / f"un café{suffix}"
    file.write_bytes(text.encode(encoding))
    assert only_document(file).content == text


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("garbage.txt", bytes(range(256)) * 4, "not a text file"),
        ("nul.md", b"abc\x00def", "not a text file"),
        ("broken.pdf", b"garbage", "Stream has ended unexpectedly"),
        ("empty.pdf", b"", "the file is empty"),
        ("broken.docx", b"PK garbage", "File is not a zip file: it is damaged"),
        ("old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "protected by a password, or in the format before"),
        ("broken.xlsx", b"PK garbage", "File is not a zip file"),
        ("broken.html", b"<html></html>", "no text could be read from it"),
    ],
)
def test_broken_files_are_named_with_a_reason(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    assert reason in only_reason(file)


def test_pdf_without_text_says_so(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.write(tmp_path / "scan.pdf")
    assert only_reason(tmp_path / "scan.pdf") == "no text in it; a scanned PDF needs OCR first"


def test_a_file_that_has_gone_is_a_problem(tmp_path: Path) -> None:
    assert only_reason(tmp_path / "gone.txt") == "No such file or directory"


def test_titles_are_kept(tmp_path: Path) -> None:
    import docx

    (tmp_path / "a.md").write_text(f"# Le café \n\n{FRENCH}")
    page = f"<html><head><title>The\n coffee</title></head><body><article><p>{ENGLISH}</p></article></body></html>"
    (tmp_path / "b.html").write_text(page)
    word = docx.Document()
    word.core_properties.title = "Le café"
    word.add_paragraph(FRENCH)
    word.save(str(tmp_path / "c.docx"))
    titles = [only_document(tmp_path / name).meta["title"] for name in ("a.md", "b.html", "c.docx")]
    assert titles == ["Le café", "The coffee", "Le café"]


def test_html_without_charset_may_be_windows_1252(tmp_path: Path) -> None:
    file = tmp_path / "old.html"
    file.write_bytes(f"<html><body><article><p>{FRENCH}</p></article></body></html>".encode("cp1252"))
    assert only_document(file).content == FRENCH


def test_jsonl_names_its_broken_lines_and_reads_the_others(tmp_path: Path) -> None:
    lines: list[bytes] = [
        b'\xef\xbb\xbf{"content": "Un", "meta": {"a": 0}}',
        b'{"text": "Two", "title": "T", "_id": "7"}',
        b"",
        b"not json",
        b'{"content": 5}',
        b"[1]",
        b'{"content": "x", "meta": {"a": NaN}}',
        b'{"content": "\\ud800"}',
        b'{"content": "\xe9t\xe9"}',
        b"[" * 100_000,
        b'{"content": "Fin"}',
    ]
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"\n".join(lines))
    outcomes = read(file)
    documents = [outcome for outcome in outcomes if isinstance(outcome, Document)]
    assert [(doc.content, doc.meta) for doc in documents] == [
        ("Un", {"a": 0}),
        ("Two", {"title": "T", "id": "7"}),
        ("été", {}),
        ("Fin", {}),
    ]
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    assert [problem.line for problem in problems] == [4, 5, 6, 7, 8, 10]
    assert str(problems[0]) == f"{file}:4: not JSON: Expecting value at column 1"
    assert (
        sum(reading.bytes for reading in read_file(file)) == file.stat().st_size - 4
    )  # the mark at the start, the empty line


def test_folders_are_walked_once_and_odd_files_left_aside(tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a.md",
        "x.odt",
        "y.ODT",
        "z",
        ".hidden.txt",
        ".git/c.txt",
        "sub/été à Paris.jsonl",
        "store/d.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "twice.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "dangling.txt").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe.txt")  # reading it would wait for ever
    found = find_files([tmp_path, tmp_path / "b.txt", tmp_path / "x.odt"], leave_out=tmp_path / "store")
    assert [str(file.name) for file in found.files] == [
        "a.md",
        "b.txt",
        "sub/été à Paris.jsonl",
    ]
    assert found.other_kinds == {".odt": 2, "without a suffix": 1}
    assert [Path(problem.file).name for problem in found.problems] == ["dangling.txt", "pipe.txt", "x.odt"]
    with pytest.raises(ValueError, match="no such file or folder: /nowhere"):
        find_files([tmp_path, Path("/nowhere")], leave_out=tmp_path)


def split(content: str, words: int, file: str = "/a.txt") -> list[Document]:
    return Splitter(words).split(Document(content=content), Path(file), Counter())


def test_passages_have_the_length_asked_for_and_lose_no_word() -> None:
    words = [f"mot{number}" for number in range(1000)]
    passages = split("\n".join(words), 40)  # one word a line: a space is not what separates them
    lengths = [len((passage.content or "").split()) for passage in passages]
    assert set(lengths[:-1]) == {40}
    assert 15 <= lengths[-1] <= 50
    seen = dict.fromkeys(word for passage in passages for word in (passage.content or "").split())
    assert list(seen) == words


def test_a_million_characters_without_a_space_are_cut() -> None:
    passages = split("漢" * 1_000_000, 150)
    assert sum(len(passage.content or "") for passage in passages) >= 1_000_000
    assert max(len(passage.content or "") for passage in passages) < 25_000


def test_pages_are_counted_from_the_first_even_if_it_is_empty() -> None:
    passages = split("\fun deux\ftrois quatre", 2)
    pages = [(passage.content, passage.meta["page_number"]) for passage in passages]
    assert pages == [("un deux", 2), ("trois quatre", 3)]
    assert "page_number" not in split("un deux", 2)[0].meta


@pytest.mark.parametrize("blank", ["", " \n\t ", "\f\f"])
def test_a_text_without_words_has_no_passage(blank: str) -> None:
    assert split(blank, 10) == []


def test_the_id_says_all_that_is_stored() -> None:
    splitter, seen = Splitter(10), Counter[str]()
    plain = Document(content="Bonjour")
    first, twin = (splitter.split(plain, Path("/a"), seen)[0] for _ in range(2))
    again = splitter.split(plain, Path("/a"), Counter())[0]
    elsewhere = splitter.split(plain, Path("/b"), Counter())[0]
    other_meta = splitter.split(Document(content="Bonjour", meta={"title": "T"}), Path("/a"), Counter())[0]
    assert first.id == again.id
    assert len({first.id, twin.id, elsewhere.id, other_meta.id}) == 4
    assert first.meta == {"file_path": "/a", "split_id": 0}


def test_passage_words_must_be_positive() -> None:
    with pytest.raises(ValueError, match="passage_words must be > 0, but got 0"):
        Splitter(0)


def test_examples_are_read_whole() -> None:
    import bloomz_haystack

    folder = Path(bloomz_haystack.__file__).parent / "examples"
    found = find_files([folder], leave_out=folder / "store")
    outcomes = [outcome for file in found.files for outcome in read(file.path)]
    assert all(isinstance(outcome, Document) for outcome in outcomes)
    assert len(outcomes) == 32
    assert {file.path.suffix for file in found.files} == {".txt", ".md", ".jsonl"}
    languages = Counter(json.loads(line)["meta"]["language"] for f in folder.glob("*.jsonl") for line in f.open())
    assert languages == {"fr": 12, "en": 12}
