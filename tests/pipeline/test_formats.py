"""Every format: nothing that a reader sees is lost in silence, and what cannot be read is named."""

import io
import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from haystack import Document

from bloomz_haystack.indexing.files import Note, Problem
from bloomz_haystack.indexing.formats.decoding import decode, lines, pieces
from bloomz_haystack.indexing.formats.line_ends import rejoined
from bloomz_haystack.indexing.passages import Splitter
from bloomz_haystack.indexing.texts import read_file
from haystack_integrations.common.bloomz.plain_text import plain_text

FRENCH = "L'indemnité journalière est versée par la caisse."
ENGLISH = "The allowance is paid by the fund."
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read(path: Path, data: bytes | str) -> tuple[list[Document], list[Problem | Note]]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return outcomes(path)


def outcomes(path: Path) -> tuple[list[Document], list[Problem | Note]]:
    found = [reading.outcome for reading in read_file(path)]
    documents = [outcome for outcome in found if isinstance(outcome, Document)]
    return documents, [outcome for outcome in found if not isinstance(outcome, Document)]


def text_of(path: Path, data: bytes | str) -> str:
    (document,), told = read(path, data)
    assert told == []
    return document.content or ""


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    ("data", "text", "told"),
    [
        (f"{FRENCH} \xff".encode("latin-1"), f"{FRENCH} ÿ", ""),  # no UTF-8 in it: an old file, as ever
        (FRENCH.encode() + b" \xff", f"{FRENCH} ÿ", "1 byte of it not UTF-8"),
        (FRENCH.encode() + "\n«Été»".encode("cp1252"), f"{FRENCH}\n«Été»", "4 bytes of it not UTF-8"),
        (FRENCH.encode() + b"\xc3", FRENCH + "\ufffd", "1 character of it unreadable"),
        ("CAFÉ» et CAFÉ\xa0été!".encode("cp1252"), "CAFÉ» et CAFÉ\xa0été!", ""),  # pairs that would be UTF-8
        ("été, ".encode("cp1252") * 9 + "congé".encode(), "été, " * 9 + "congé", "18 bytes of it not UTF-8"),
        (FRENCH.encode() * 9 + b"\x00", FRENCH * 9, "1 character of it unreadable"),
        (FRENCH.encode("utf-16-le"), FRENCH, ""),  # without a mark
        (FRENCH.encode("utf-16-be"), FRENCH, ""),
        (b"\xff\xfe\x00\x00" + FRENCH.encode("utf-32-le"), FRENCH, ""),
    ],
)
def test_only_the_bad_bytes_suffer(data: bytes, text: str, told: str, tmp_path: Path) -> None:
    assert decode(data)[0] == text
    for suffix in (".txt", ".md"):
        (document,), notes = read(tmp_path / f"a{suffix}", data)
        assert (document.content or "").split() == text.split()
        assert [told in str(note) and f"a{suffix}: " in str(note) for note in notes] == [True] * bool(told)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_json_lines_are_decoded_as_text_is(encoding: str, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"content": text}, ensure_ascii=False) + "\n" for text in (FRENCH, ENGLISH, "été"))
    documents, told = read(tmp_path / "a.jsonl", rows.encode(encoding))
    assert [document.content for document in documents] == [FRENCH, ENGLISH, "été"]
    assert told == []


def test_a_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    data = f'{{"content": "{FRENCH}"}}\n'.encode() + '{"content": "congé"}'.encode("cp1252")
    documents, told = read(tmp_path / "a.jsonl", data)
    assert [document.content for document in documents] == [FRENCH, "congé"]
    assert [str(note) for note in told] == [f"{tmp_path}/a.jsonl: 1 byte of it not UTF-8, read as Windows-1252"]


@pytest.mark.parametrize("text", ["é" * 5000, "mot été " * 700, "une ligne é\n" * 500, "漢" * 4000])
def test_pieces_cut_no_character(text: str) -> None:
    parts = list(pieces(io.BytesIO(text.encode()), 1000))
    assert len(parts) > 5
    assert "".join(part.decode() for part in parts) == text
    assert b"".join(lines(io.BytesIO(text.encode()))).decode() == text


# ---------------------------------------------------------------- one spelling


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("e\u0301le\u0300ve", "élève"),
        ("assu\u00adrance", "assurance"),
        ("assu\u00ad\n  rance", "assurance"),
        ("in\u200bcen\u2060die \ufeffici", "incendie ici"),
        ("o\ufb03ce, \ufb01n, \ufb02ux", "office, fin, flux"),
        ("re\u200cçu", "reçu"),
        ("m² ½ œuvre 25 °C", "m² ½ œuvre 25 °C"),
        ("👩\u200d⚕️ می\u200cخواهم", "👩\u200d⚕️ می\u200cخواهم"),
    ],
)
def test_equal_words_are_equal_strings(given: str, plain: str, tmp_path: Path) -> None:
    assert plain_text(given) == plain
    assert text_of(tmp_path / "a.txt", given) == plain
    assert text_of(tmp_path / "a.md", given) == plain
    assert text_of(tmp_path / "a.html", f"<p>{given}</p>") == plain
    assert text_of(tmp_path / "a.jsonl", json.dumps({"content": given})) == plain
    assert text_of(tmp_path / "a.csv", f'content,b\n"{given}",c\n') == plain


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ("une assu-\nrance", "une assurance\n"),
        ("the employ-\nment, now", "the employment,\nnow"),
        ("incen-\r\n   die", "incendie\r\n"),
        ("prin-\fcipal", "principal\f"),
        ("INDEM-\nNITÉ", "INDEMNITÉ\n"),
        ("sous-développe-\nment", "sous-développement\n"),
        ("xylo-\nphrastique", "xylophrastique\n"),  # in no word list
        ("peut-\nêtre", "peut-être\n"),
        ("un sous-\nmarin", "un sous-marin\n"),
        ("arc-\nen-\nciel", "arc-en-ciel\n"),
        ("c'est-\nà-dire", "c'est-à-dire\n"),
        ("a well-\nknown man", "a well-known\nman"),
        ("Jean-\nPaul à Saint-\nMalo", "Jean-Paul\nà Saint-Malo\n"),
        ("an e-\nmail", "an e-mail\n"),
        ("le kilo-\noctet, un kilooctet", "le kilooctet,\nun kilooctet"),  # as it stands elsewhere in the text
        ("le kilo-\noctet, un kilo-octet", "le kilo-octet,\nun kilo-octet"),
    ],
)
def test_words_cut_by_line_ends_are_whole_and_compounds_keep_their_hyphen(given: str, joined: str) -> None:
    assert rejoined(given) == joined


@pytest.mark.parametrize(
    "text",
    [
        "2019-\n2020",
        "- un\n- deux",
        "solde :\n-5 euros",
        "fin -\nsuite",
        "COVID-\n19",
        "--\na",
        "x = a -\n    b",
        "a-b\nc",
    ],
)
def test_dashes_that_cut_no_word_stay(text: str) -> None:
    assert rejoined(text) == text


def test_an_endless_word_costs_its_length() -> None:
    assert rejoined("x" * 300_000 + "-\n1") == "x" * 300_000 + "-\n1"  # squared it would be hours


# ---------------------------------------------------------------- HTML and Markdown

PAGE = """<html><head><meta charset="utf-8"><style>p {}</style></head><body>
<svg><title>Icône de menu</title><text>Axe</text></svg><nav><a href="/">Accueil</a></nav>
<h1>Congés &amp; paie</h1><p>Un <b>pa</b>ragraphe<br>coupé.</p>
<table><tr><th>Mois</th><td>Mars<ul><li>22 jours</li><li>1 férié</li></ul></td></tr></table>
<aside>Note de côté</aside><details><summary>Plus</summary>Caché</details>
<figure><img src="x" alt="Schéma"><figcaption>Légende</figcaption></figure>
<form><label>Nom</label><select><option>Paris</option></select></form>
<ul><li><a href="a">Lien un</a></li></ul><a href="b">Deux</a><a href="c">Trois</a>
<!-- commentaire --><script>var x</script><pre>a  b
  c</pre><footer>SIRET 552 100</footer></body></html>"""


def test_all_that_a_reader_of_a_page_sees_is_kept(tmp_path: Path) -> None:
    (document,), told = read(tmp_path / "a.html", PAGE)
    assert told == []
    assert document.meta == {"title": "Congés & paie"}
    said = [line for line in (document.content or "").split("\n") if line.strip()]
    assert said == [
        *("Axe", "Congés & paie", "Un paragraphe", "coupé.", "Mois | Mars", "22 jours", "1 férié", "Note de côté"),
        *("Plus", "Caché", "Schéma", "Légende", "Nom", "Paris", "Lien un", "Deux Trois", "a  b", "c", "SIRET 552 100"),
    ]


def test_text_nested_a_thousand_deep_is_kept(tmp_path: Path) -> None:
    assert text_of(tmp_path / "a.html", "<div>" * 1000 + FRENCH + "</div>" * 1000) == FRENCH


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("iso-8859-1", "cp1252"), ("utf-8", "utf-8"), ("utf-8", "cp1252"), ("windows-1252", "utf-8"), ("nope", "cp1252")],
)
def test_pages_are_decoded_whatever_they_declare(declared: str, encoding: str, tmp_path: Path) -> None:
    page = f'<?xml version="1.0" encoding="{declared}"?><html><title>L’impôt &eacute;t&eacute;</title><p>{FRENCH} 12 €'
    (document,), _ = read(tmp_path / "a.html", page.encode(encoding))
    assert (document.content, document.meta) == (f"{FRENCH} 12 €", {"title": "L’impôt été"})


def test_markdown_front_matter_is_metadata_and_headings_are_no_comments(tmp_path: Path) -> None:
    text = f"---\ntitle: Règlement\ndate: 2024-05-03\ntags: [rh, paie]\n---\n```\n# code\n```\n{FRENCH}\n"
    (document,), told = read(tmp_path / "a.md", text.replace("\n", "\r\n"))
    assert told == []
    assert document.meta == {"title": "Règlement", "date": "2024-05-03", "tags": ["rh", "paie"]}
    assert (document.content or "").split() == ["#", "code", *FRENCH.split()]
    (document,), _ = read(tmp_path / "b.md", f"```\n# code\n```\n\nMon *titre*\n===\n{FRENCH}")
    assert document.meta["title"] == "Mon titre"


@pytest.mark.parametrize("front", ["a: [", "- list", "a: &x 1\nb: *x", "just text"])
def test_what_is_no_front_matter_is_text(front: str, tmp_path: Path) -> None:
    (document,), _ = read(tmp_path / "a.md", f"---\n{front}\n---\n\n{FRENCH}")
    assert FRENCH in (document.content or "")
    assert front.split()[-1].lstrip("*-") in (document.content or "")


def test_markdown_loses_no_word(tmp_path: Path) -> None:
    text = text_of(
        tmp_path / "a.md",
        "| E42 | disque |\n|---|---|\n| a | b |\n\n<details>Caché</details>\n\nlancez run <fichier> ici[^1]\n\n"
        "[^1]: mot\n\n" + "> " * 30 + "profond\n",
    )
    for word in ("E42 | disque", "Caché", "<fichier>", "[^1]: mot", "profond"):
        assert word in text


# ---------------------------------------------------------------- Word, PowerPoint, Excel


def word_file(path: Path, body: str, **parts: str) -> None:
    import docx

    document = docx.Document()
    plain = io.BytesIO()
    document.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                start, end = data.index(b"<w:body>") + 8, data.index(b"</w:body>")
                data = data[:start] + body.encode() + data[end:]
            new.writestr(name, parts.get(name, data))


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def test_all_the_text_of_a_word_document_but_the_deleted_is_kept(tmp_path: Path) -> None:
    cell = f"<w:tc><w:p>{run('interne')}</w:p><w:tbl><w:tr><w:tc><w:p>{run('QX77')}</w:p></w:tc></w:tr></w:tbl></w:tc>"
    held = f"<w:sdt><w:sdtContent><w:tr><w:tc><w:p>{run('ligne')}</w:p></w:tc></w:tr></w:sdtContent></w:sdt>"
    body = (
        f"<w:sdt><w:sdtContent><w:p>{run('Le maître est Mme Lebrun.')}</w:p></w:sdtContent></w:sdt>"
        f"<w:p>{run('Somme : ')}<w:sdt><w:sdtContent>{run('669,90')}</w:sdtContent></w:sdt></w:p>"
        f"<w:p>{run('Préavis de ')}<w:del><w:r><w:delText>huit</w:delText></w:r></w:del>"
        f"<w:ins>{run('quinze')}</w:ins><w:moveFrom>{run(' loin')}</w:moveFrom>{run(' jours')}</w:p>"
        f"<w:p>{run('Rem')}<w:r><w:softHyphen/><w:t>bours</w:t><w:noBreakHyphen/><w:t>à</w:t><w:br/>"
        "<w:fldChar/><w:instrText>PAGE</w:instrText></w:r></w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('Mars')}</w:p></w:tc>{cell}</w:tr>{held}</w:tbl>"
    )
    word_file(tmp_path / "a.docx", body)
    (document,), told = outcomes(tmp_path / "a.docx")
    assert told == []
    said = [line.strip() for line in (document.content or "").split("\n") if line.strip()]
    assert said == [
        *("Le maître est Mme Lebrun.", "Somme : 669,90", "Préavis de quinze jours", "Rembours-à"),
        *("Mars | interne", "QX77", "ligne"),
    ]


def test_headers_and_footers_stand_at_the_end_once(tmp_path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph(FRENCH)
    document.sections[0].header.paragraphs[0].text = "Référence 2024-118"
    document.sections[0].footer.paragraphs[0].text = "SIRET 552"
    document.save(str(tmp_path / "a.docx"))
    (read_document,), _ = outcomes(tmp_path / "a.docx")
    assert (read_document.content or "").split("\n")[0] == FRENCH
    assert (read_document.content or "").split("\n")[-2:] == ["Référence 2024-118", "SIRET 552"]


def test_a_zip_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomz_haystack.indexing.formats import office_files

    monkeypatch.setattr(office_files, "LARGEST_CONTENT", 1000)
    word_file(tmp_path / "a.docx", f"<w:p>{run(FRENCH)}</w:p>")
    _, (problem,) = outcomes(tmp_path / "a.docx")
    assert "it unpacks to" in str(problem)


def test_slides_keep_tables_groups_and_notes(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    presentation = pptx.Presentation()
    for title in (FRENCH, ENGLISH):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = title
    table = slide.shapes.add_table(1, 2, 0, 0, 100, 100).table
    table.cell(0, 0).text, table.cell(0, 1).text = "Mars", "22"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "dans un groupe"
    slide.notes_slide.notes_text_frame.text = "à dire"
    presentation.save(str(tmp_path / "a.pptx"))
    (document,), told = outcomes(tmp_path / "a.pptx")
    assert told == []
    first, second = (document.content or "").split("\f")
    assert first.strip() == FRENCH
    assert [line for line in second.split("\n") if line.strip()] == [ENGLISH, "Mars | 22", "dans un groupe", "à dire"]


def test_sheets_give_a_text_a_row(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Prix"
    for row in ([None], ["code", "prix", None], ["A12", 0.5, "en plus"], [None, None], ["B40", 3]):
        book.active.append(row)
    book.create_sheet("Vide")
    book.save(tmp_path / "a.xlsx")
    documents, told = outcomes(tmp_path / "a.xlsx")
    assert told == []
    assert [(document.content, document.meta) for document in documents] == [
        (
            "code: A12\nprix: 0.5\ncolumn 3: en plus",
            {"sheet": "Prix", "code": "A12", "prix": 0.5, "column 3": "en plus"},
        ),
        ("code: B40\nprix: 3", {"sheet": "Prix", "code": "B40", "prix": 3}),
    ]


# ---------------------------------------------------------------- CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_rows_are_texts_and_columns_metadata(delimiter: str, name: str, encoding: str, tmp_path: Path) -> None:
    rows = [["code", "libellé", "libellé"], ["A12", f"Écrou{delimiter} 6\nmm", "x"], [], ["B40", "", "", "en trop"]]
    text = "\n".join(delimiter.join(f'"{cell}"' if "Écrou" in cell else cell for cell in row) for row in rows)
    documents, told = read(tmp_path / name, text.encode(encoding))
    assert told == []
    assert [document.meta for document in documents] == [
        {"code": "A12", "libellé": f"Écrou{delimiter} 6\nmm", "libellé 3": "x"},
        {"code": "B40", "column 4": "en trop"},
    ]
    assert documents[1].content == "code: B40\ncolumn 4: en trop"


def test_a_content_column_is_the_text(tmp_path: Path) -> None:
    documents, _ = read(tmp_path / "a.csv", f'sep=;\nid;Content\n1;"{FRENCH}"\n2;"{ENGLISH}"\n')
    assert [(document.content, document.meta) for document in documents] == [
        (FRENCH, {"id": "1"}),
        (ENGLISH, {"id": "2"}),
    ]


# ---------------------------------------------------------------- PDF


def pdf_file(path: Path, pages: list[bytes | None], **encryption: Any) -> None:  # noqa: ANN401
    """Pages with one line of Latin-1 text each; None: a picture."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica", "/Encoding": "/WinAnsiEncoding"}
    fonts = DictionaryObject({NameObject("/F1"): _names(font)})
    for text in pages:
        page = writer.add_blank_page(200, 200)
        stream = DecodedStreamObject()
        stream.set_data(b"/Im0 Do" if text is None else b"BT /F1 12 Tf 10 100 Td (" + text + b") Tj ET")
        page[NameObject("/Contents")] = writer._add_object(stream)
        resources = DictionaryObject({NameObject("/Font"): fonts})
        if text is None:
            image = DecodedStreamObject()
            image.set_data(b"\x00")
            image.update(_names({"/Type": "/XObject", "/Subtype": "/Image"}))
            resources[NameObject("/XObject")] = DictionaryObject({NameObject("/Im0"): writer._add_object(image)})
        page[NameObject("/Resources")] = resources
    if encryption:
        writer.encrypt(**encryption)
    writer.write(path)


def _names(values: dict[str, str]) -> Any:  # noqa: ANN401
    from pypdf.generic import DictionaryObject, NameObject

    return DictionaryObject({NameObject(key): NameObject(value) for key, value in values.items()})


def test_scanned_pages_among_others_are_named(tmp_path: Path) -> None:
    pdf_file(tmp_path / "a.pdf", [b"Un", None, b"", b"Deux", None, None])
    (document,), (note,) = outcomes(tmp_path / "a.pdf")
    assert (document.content or "").replace("\n", "") == "Un\f\f\fDeux\f\f"
    assert str(note) == f"{tmp_path}/a.pdf: no text on 3 pages of it (2, 5-6): scanned pages need OCR first"


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_an_encrypted_pdf_is_opened_or_its_password_named(algorithm: str, tmp_path: Path) -> None:
    pdf_file(tmp_path / "open.pdf", [b"\xe9t\xe9"], user_password="", owner_password="x", algorithm=algorithm)
    pdf_file(tmp_path / "shut.pdf", [b"\xe9t\xe9"], user_password="secret", algorithm=algorithm)
    (document,), told = outcomes(tmp_path / "open.pdf")
    assert (document.content, told) == ("été", [])
    _, (problem,) = outcomes(tmp_path / "shut.pdf")
    assert "shut.pdf: protected by a password" in str(problem)


def test_accents_of_tex_are_composed(tmp_path: Path) -> None:
    pdf_file(tmp_path / "a.pdf", [b"L'\xb4et\xb4e `a No\xa8el, gar\xb8con, le code `a`"])
    (document,), _ = outcomes(tmp_path / "a.pdf")
    assert document.content == "L'été à Noël, garçon, le code `a`"


# ---------------------------------------------------------------- any file


@pytest.mark.parametrize("suffix", [".txt", ".md", ".html", ".pdf", ".docx", ".pptx", ".xlsx", ".csv", ".jsonl"])
def test_whatever_a_file_holds_is_read_or_named(suffix: str, tmp_path: Path) -> None:
    """Bytes of every kind, whole files of another kind, halves of good ones."""
    import random

    word_file(tmp_path / "good.docx", f"<w:p>{run(FRENCH)}</w:p>")
    pdf_file(tmp_path / "good.pdf", [b"Un", b"Deux"])
    good = [(tmp_path / name).read_bytes() for name in ("good.docx", "good.pdf")]
    noise = random.Random(0).randbytes(5000)
    odd = [b"", b"\x00" * 99, noise, PAGE.encode(), b"{" * 9999, b'"' * 999, *good, *(data[:-400] for data in good)]
    for data in odd:
        documents, told = read(tmp_path / f"odd{suffix}", data)
        assert all("\n" not in str(outcome) and outcome.reason for outcome in told)
        assert all((document.content or "").encode() is not None for document in documents)


def test_a_pipe_and_a_device_are_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.txt", "zero.txt"):
        assert str(outcomes(tmp_path / name)[1][0]).endswith(f"{name}: not a regular file")


def test_a_large_text_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    from bloomz_haystack.indexing.formats import decoding

    monkeypatch.setattr(decoding, "PIECE", 2**16)
    (tmp_path / "a.txt").write_text("La cantine ouvre à midi.\n" * 80_000)
    size = (tmp_path / "a.txt").stat().st_size
    tracemalloc.start()
    characters = taken = 0
    for reading in read_file(tmp_path / "a.txt"):
        assert isinstance(reading.outcome, Document)
        characters += len(reading.outcome.content or "")
        taken += reading.bytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (characters, taken) == (80_000 * 25, size)
    assert peak < size / 2


# ---------------------------------------------------------------- endless words


@pytest.mark.parametrize("alphabet", ["漢字語文章", "QUJDzA5", "ภาษาไทย", "a,b;{}()", "мирный ", "mot été "])
def test_every_passage_fits_the_model_and_no_letter_is_lost(alphabet: str) -> None:
    import random

    text = " ".join("".join(random.Random(0).choices(alphabet, k=20_000)).split())
    fits = lambda passage: len(passage.encode()) <= 1000  # noqa: E731
    covered = 0
    for passage in Splitter(150, fits).split(Document(content=text), Path("a"), Counter()):
        content = passage.content or ""
        assert fits(content)
        start = text.index(content, max(covered - 1000, 0))
        assert start <= covered + 1  # a space
        covered = max(covered, start + len(content))
    assert covered == len(text)
