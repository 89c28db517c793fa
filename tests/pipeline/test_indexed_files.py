"""Files that change, move and go away: what the store holds of them follows, and nothing is removed in silence."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomz_haystack.indexing.files import FoundFile, name_in_store, path_of
from bloomz_haystack.indexing.index import IndexSummary, index_files
from bloomz_haystack.indexing.indexed_files import IndexedFiles
from bloomz_haystack.settings import IndexSettings
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

FRENCH, ENGLISH = "Le tarif est de 3 euros.", "The price is 3 euros."
LATIN = os.fsdecode("été.txt".encode("latin-1"))


class Place:
    """A folder of files and its store."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.docs, self.store, self.model = folder / "docs", folder / "store", str(model)
        self.docs.mkdir()

    def write(self, name: str, text: str) -> Path:
        file = self.docs / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def index(self, *paths: Path, **options: Any) -> IndexSummary:  # noqa: ANN401
        return index_files(paths or [self.docs], self.store, IndexSettings(model=self.model, **options))

    def held(self) -> dict[str, str]:
        documents = QdrantEdgeDocumentStore(str(self.store), 24)
        found = {str(document.meta["file_path"]): document.content or "" for document in documents.filter_documents()}
        assert documents.count_documents() == len(found)
        documents.close()
        return found


@pytest.fixture
def place(tmp_path: Path, tiny_bloom: Path) -> Place:
    return Place(tmp_path, tiny_bloom)


def counts(summary: IndexSummary) -> tuple[int, int, int]:
    return summary.embedded, summary.unchanged, summary.removed


def test_a_renamed_folder_can_be_removed_by_its_old_name(place: Place) -> None:
    place.write("2023/a.txt", FRENCH)
    place.write("2023/b.txt", ENGLISH)
    place.index(place.docs / "2023")
    (place.docs / "2023").rename(place.docs / "2024")
    place.index(place.docs / "2024")
    with pytest.raises(ValueError, match="no such file or folder"):
        place.index(place.docs / "2023")
    assert counts(place.index(place.docs / "2023" / "a.txt", prune=True)) == (0, 0, 1)
    assert counts(place.index(place.docs / "2023", prune=True)) == (0, 0, 1)
    assert place.held() == {"a.txt": FRENCH, "b.txt": ENGLISH}
    with pytest.raises(ValueError, match="2023, and the store holds nothing of it"):
        place.index(place.docs / "2023", prune=True)


def test_what_is_gone_behind_a_link_is_removed_and_a_moved_link_too(place: Place, tmp_path: Path) -> None:
    for year in ("v1", "v2"):
        (tmp_path / year).mkdir()
        for name in ("a.txt", "b.txt"):
            (tmp_path / year / name).write_text(f"{name} {year}")
    (place.docs / "now").symlink_to(tmp_path / "v1")
    place.index()
    (tmp_path / "v1" / "a.txt").unlink()
    assert counts(place.index(prune=True)) == (0, 1, 1)
    assert place.held() == {"now/b.txt": "b.txt v1"}
    (place.docs / "now").unlink()
    (place.docs / "now").symlink_to(tmp_path / "v2")
    assert counts(place.index(prune=True)) == (2, 0, 1)
    assert place.held() == {"now/a.txt": "a.txt v2", "now/b.txt": "b.txt v2"}


@pytest.mark.parametrize("kind", ["the folder", "a folder inside", "a link"])
def test_a_disk_that_is_not_mounted_loses_nothing_in_silence(kind: str, place: Place, tmp_path: Path) -> None:
    nas = {"the folder": place.docs, "a folder inside": place.docs / "nas", "a link": tmp_path / "nas"}[kind]
    nas.mkdir(exist_ok=True)
    if kind == "a link":
        (place.docs / "nas").symlink_to(nas)
    if kind != "the folder":
        place.write("here.txt", FRENCH)
    for name in ("a.txt", "b.txt"):
        (nas / name).write_text(f"{name}: {ENGLISH}")
    place.index()
    before = place.held()
    for name in ("a.txt", "b.txt"):
        (nas / name).unlink()
    if kind == "a link":
        nas.rmdir()
    summary = place.index(prune=True)
    doubts = [str(problem) for problem in summary.problems if "2 passages of 2 files gone" in str(problem)]
    assert len(doubts) == 1
    assert "--prune --yes removes it" in doubts[0]
    assert place.held() == before
    assert place.index(prune=True, prune_all=True).removed == 2
    assert place.held() == {name: text for name, text in before.items() if name == "here.txt"}


def test_the_last_passages_of_a_store_are_not_removed_in_silence(place: Place) -> None:
    place.write("old/a.txt", FRENCH)
    place.write("b.odt", "")
    place.index(place.docs / "old")
    (place.docs / "old" / "a.txt").unlink()
    (place.docs / "old").rmdir()
    summary = place.index(place.docs / "old", prune=True)
    assert "1 passage of 1 file gone, all that the store holds" in str(summary.problems[0])
    assert place.held() == {"a.txt": FRENCH}


def test_names_that_are_not_utf_8_are_kept_distinct(place: Place) -> None:
    names = [LATIN, os.fsdecode("èté.txt".encode("latin-1")), "été.txt", "%E9t%E9.txt", "100%.txt"]
    for number, name in enumerate(names):
        place.write(name, f"{FRENCH} {number}")
    assert counts(place.index()) == (5, 0, 0)
    assert counts(place.index(prune=True)) == (0, 5, 0)
    assert set(place.held()) == {"%E9t%E9.txt", "%E8t%E9.txt", "été.txt", "%25E9t%25E9.txt", "100%.txt"}
    (place.docs / LATIN).unlink()
    assert counts(place.index(prune=True)) == (0, 4, 1)
    assert "%E9t%E9.txt" not in place.held()


@pytest.mark.parametrize("name", ["a", "%", "%25", "%FF", "%2525", "%41", "é", "\udcff", "%\udcff25", "\udcc3a\udca9"])
def test_a_stored_name_gives_the_path_back(name: str) -> None:
    assert path_of(name_in_store(Path(name))) == Path(name)
    name_in_store(Path(name)).encode()


def test_answers_name_no_folder_of_the_machine(place: Place, tmp_path: Path) -> None:
    place.write("rh/congés.txt", FRENCH)
    place.index()
    documents = QdrantEdgeDocumentStore(str(place.store), 24)
    (document,) = documents.filter_documents()
    documents.close()
    assert document.meta["file_path"] == "rh/congés.txt"
    assert str(tmp_path) not in json.dumps(document.to_dict())


def test_a_file_seen_from_a_folder_further_up_is_the_same_file(place: Place) -> None:
    place.write("rh/a.txt", FRENCH)
    place.index(place.docs / "rh" / "a.txt")
    assert place.held() == {"a.txt": FRENCH}
    assert counts(place.index()) == (0, 1, 0)
    assert place.held() == {"rh/a.txt": FRENCH}
    assert counts(place.index(place.docs / "rh")) == (0, 1, 0)
    assert place.held() == {"rh/a.txt": FRENCH}


def test_the_metadata_of_a_line_is_its_own(place: Place) -> None:
    meta = {"file_path": "produits/a.pdf", "page_number": 12, "split_id": "A7", "source_id": "z"}
    place.write("export.jsonl", json.dumps({"content": FRENCH, "meta": meta}))
    place.index()
    documents = QdrantEdgeDocumentStore(str(place.store), 24)
    (document,) = documents.filter_documents()
    documents.close()
    assert {name: document.meta[name] for name in meta} == meta
    assert document.meta["indexed_file_path"] == "export.jsonl"
    assert document.meta["indexed_split_id"] == 0
    place.write("again.jsonl", json.dumps({"content": FRENCH, "meta": document.meta}))
    assert ["indexed_file" in str(note) for note in place.index(place.docs / "again.jsonl").notes] == [True]


def test_a_line_that_breaks_loses_nothing(place: Place) -> None:
    rows = [json.dumps({"content": f"Tarif {n}"}) for n in range(3)]
    file = place.write("t.jsonl", "\n".join(rows))
    place.index()
    file.write_text("\n".join([rows[0], rows[1][:-2], rows[2]]))
    summary = place.index()
    assert (counts(summary), [problem.line for problem in summary.problems]) == ((0, 2, 0), [2])
    file.write_bytes(b"\xff\xfe\x00")
    assert counts(place.index()) == (0, 0, 0) or place.index().problems
    file.write_text("\n".join(rows[1:]))
    assert counts(place.index()) == (0, 2, 1)  # whole again: what it no longer says goes


def test_a_run_that_finds_nothing_makes_no_store(place: Place) -> None:
    place.write("a.odt", FRENCH)
    summary = place.index()
    assert (summary.nothing_done, summary.other_kinds) == (True, {".odt": 1})
    assert not place.store.exists()


def test_loading_the_model_is_not_counted_as_speed(place: Place) -> None:
    place.write("a.txt", FRENCH)
    summary = place.index()
    assert 0 < summary.loading_seconds < summary.seconds
    assert summary.passages_per_second == pytest.approx(1 / (summary.seconds - summary.loading_seconds))


def test_an_endless_word_is_read_to_its_end(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write("a.txt", "漢字" * 4000)
    summary = place.index(passage_words=2000)
    assert summary.passages > 3
    assert "lost their end" not in caplog.text


def test_a_torn_list_is_read_and_added_to(tmp_path: Path) -> None:
    def found(name: str) -> FoundFile:
        return FoundFile(tmp_path / name, tmp_path / name, tmp_path)

    files = IndexedFiles(tmp_path)
    files.add(found("a.txt"))
    files.save()
    with (tmp_path / "files.jsonl").open("a") as torn:
        torn.write('{"key": "12')
    again = IndexedFiles(tmp_path)
    again.add(found("b.txt"))
    again.save()
    assert [file.name for file in IndexedFiles(tmp_path).by_key.values()] == ["a.txt", "b.txt"]


def test_a_text_too_long_for_the_model_is_noted_once_a_file(make_bloom: Callable[..., Path], tmp_path: Path) -> None:
    """Words of over eighty letters, which a model of twelve tokens cannot read, in more than one block."""
    (tmp_path / "mots.txt").write_text(" ".join(f"é{n:02d}" + "xq" * 40 for n in range(20)))
    (tmp_path / "words.txt").write_text("xq" * 40 + " short")
    (tmp_path / "court.txt").write_text("Paris")
    summary = index_files([tmp_path], tmp_path / "store", IndexSettings(model=str(make_bloom(seq_length=12))))
    told = {Path(note.file).name: note.reason for note in summary.notes}
    assert told == {
        "mots.txt": "20 passages of it lost the end: the model reads no more of a text",
        "words.txt": "1 passage of it lost the end: the model reads no more of a text",
    }
    assert len(summary.notes) == 2
