"""Where rows come from: every kind of file gives the same rows, what is broken is named, streams repeat to the row."""

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from bloomz_haystack.training.config import DataConfig, Source
from bloomz_haystack.training.data.files import FileEntry, line_entries
from bloomz_haystack.training.data.rows import BadRowError, TextRow, parse_row, text_group
from bloomz_haystack.training.data.sampling import RowSampler
from bloomz_haystack.training.data.sources import VALIDATION_EVERY, TextRows, TokenRows, files_of, read_rows
from bloomz_haystack.training.data.stream import file_stream, hub_entries
from bloomz_haystack.training.data.token_rows import tokenize_rows
from bloomz_haystack.training.kinds import is_on_hub


def pair(number: int) -> dict[str, Any]:
    """A row in the schema of cmarkea/mmarco-contrastive."""
    return {
        "id": number,
        "query": {"english": f"Where is bridge {number}?", "french": f"Où est le pont {number} ?"},
        "positive": {"english": f"Bridge {number} is in Nantes.", "french": f"Le pont {number} est à Nantes."},
        "negatives": [
            {"english": f"Tower {number} is in Lille.", "french": None, "score": 0.25},
            {"english": f"Quay {number} is in Brest.", "french": f"Le quai {number} est à Brest.", "score": 0.9},
        ],
    }


def write_lines(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path: Path, rows: list[Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path: Path, **settings: Any) -> TextRows:  # noqa: ANN401
    return read_rows(Source(str(path), **settings))


def ids(rows: TextRows) -> list[Any]:
    return [row.id for row in (*rows.train, *rows.validation)]


def test_rows_of_some_origins_are_left_out(tmp_path: Path) -> None:
    rows = [{**pair(number), "id": f"{('gpl', 'cc')[number % 2]}-{number}"} for number in range(40)]
    sentences = [
        {"source": name, "english": f"A {i}", "french": f"Un {i}"} for i, name in enumerate(["free", "kept"] * 9)
    ]
    path = write_lines(tmp_path / "rows.jsonl", [*rows, *sentences])
    kept = read(path, leave_out=("gpl-", "free"))
    assert {str(name)[:2] for name in ids(kept)} == {"cc", "No"}
    assert len(ids(kept)) == 20 + 9
    assert len(ids(read(path))) == 58


def test_lines_gzip_parquet_and_a_folder_give_the_same_rows(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(60)]
    plain = read(write_lines(tmp_path / "rows.jsonl", rows))
    assert plain.train[0].queries == {"english": "Where is bridge 0?", "french": "Où est le pont 0 ?"}
    assert [(negative.sides, negative.score) for negative in plain.train[0].negatives] == [
        ({"english": "Tower 0 is in Lille."}, 0.25),
        ({"english": "Quay 0 is in Brest.", "french": "Le quai 0 est à Brest."}, 0.9),
    ]
    folder = tmp_path / "mined"
    folder.mkdir()
    write_lines(folder / "part-0.jsonl.gz", rows[:30])
    write_parquet(folder / "part-1.parquet", rows[30:])
    (folder / "mining.yaml").write_text("settings: {}")
    (folder / "store").mkdir()
    for other in (
        read(write_lines(tmp_path / "rows.jsonl.gz", rows)),
        read(write_parquet(tmp_path / "rows.parquet", rows)),
        read(folder),
    ):
        assert (other.train, other.validation) == (plain.train, plain.validation)
    assert files_of(folder) == [folder / "part-0.jsonl.gz", folder / "part-1.parquet"]


def test_pairs_without_negatives_and_parallel_sentences(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "query": None, "positive": {"english": None, "french": "Un pont."}},
        {
            "id": "b",
            "query": {"english": None, "french": "Où ?"},
            "positive": {"english": "A  BRIDGE.", "french": None},
        },
        {"source": "tatoeba", "english": "A bridge.", "french": "Un pont."},
    ]
    first, second, third = sorted(read(write_lines(tmp_path / "a.jsonl", rows)).train, key=lambda row: str(row.id))[:3]
    parallel, asked, silent = third, second, first
    if not parallel.parallel:  # "None" sorts before "a"
        parallel, silent, asked = first, second, third
    assert (silent.queries, silent.positives) == ({}, {"french": "Un pont."})
    assert (asked.queries, asked.positives) == ({"french": "Où ?"}, {"english": "A  BRIDGE."})
    assert parallel.queries == parallel.positives == {"english": "A bridge.", "french": "Un pont."}
    assert parallel.group == asked.group  # the same passage but for case and white space
    assert parallel.group != silent.group


BAD: list[tuple[Any, str]] = [
    ("{", "not JSON"),
    ([1], "expected an object, but got list"),
    ({"id": 1}, "expected 'positive', or a sentence"),
    ({"english": "Only one side."}, "expected 'positive', or a sentence"),
    ({"positive": None}, "'positive' must be an object"),
    ({"positive": {"english": None, "french": None}}, "'positive' has no text"),
    ({"positive": {"english": 3}}, "'positive' in English must be a text, but got int"),
    ({"positive": {"french": " \n"}}, "'positive' in French is empty"),
    ({"query": "Where?", "positive": {"french": "Là."}}, "'query' must be an object"),
    ({"query": {"french": ""}, "positive": {"french": "Là."}}, "'query' in French is empty"),
    ({"positive": {"french": "Là."}, "negatives": {}}, "'negatives' must be a list"),
    ({"positive": {"french": "Là."}, "negatives": [{"score": 0.1}]}, "a negative has no text"),
    ({"positive": {"french": "Là."}, "negatives": [{"french": "Ici.", "score": "high"}]}, "must be a number"),
    ('{"positive": {"french": "Là."}, "negatives": [{"french": "Ici.", "score": NaN}]}', "must be a number"),
    ('{"positive": {"french": "half \\ud83d"}}', "half a character"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("row", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: Any, reason: str) -> None:  # noqa: ANN401
    rows = [pair(number) for number in range(120)]
    path = write_lines(tmp_path / "rows.jsonl", [*rows[:70], row, *rows[70:]])
    found = read(path)
    assert len(found.bad) == 1
    assert found.bad[0].startswith(f"{path}:71: ")
    assert reason in found.bad[0]
    assert "\n" not in found.bad[0]
    assert sorted(ids(found)) == list(range(120))


def test_one_in_a_hundred_may_be_bad_and_no_more(tmp_path: Path) -> None:
    rows: list[Any] = [pair(number) for number in range(990)]
    found = read(write_lines(tmp_path / "ten.jsonl", [*rows, *["{}"] * 10]))
    assert len(found.bad) == 10
    with pytest.raises(ValueError, match=r"11 bad rows of 1001, at most 1 % may be .*eleven\.jsonl:991: ") as caught:
        read(write_lines(tmp_path / "eleven.jsonl", [*rows, *["{}"] * 11]))
    assert "\n" not in str(caught.value)


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(150)]
    rows[99]["positive"]["french"] = " "
    found = read(write_parquet(tmp_path / "rows.parquet", rows))
    assert found.bad == [f"{tmp_path / 'rows.parquet'}: row 100: 'positive' in French is empty"]


def torn_gzip(path: Path) -> Path:
    data = write_lines(path / "torn.jsonl.gz", [pair(number) for number in range(500)]).read_bytes()
    (path / "torn.jsonl.gz").write_bytes(data[: len(data) // 2])
    return path / "torn.jsonl.gz"


def not_gzip(path: Path) -> Path:
    (path / "plain.jsonl.gz").write_text(json.dumps(pair(1)))
    return path / "plain.jsonl.gz"


def latin(path: Path) -> Path:
    text = "\n".join(json.dumps(pair(number), ensure_ascii=False) for number in range(9))
    (path / "latin.jsonl").write_bytes(text.encode("latin-1"))
    return path / "latin.jsonl"


def utf16(path: Path) -> Path:
    (path / "wide.jsonl").write_bytes(json.dumps(pair(1)).encode("utf-16"))
    return path / "wide.jsonl"


def half_a_line(path: Path) -> Path:
    lines = "".join(json.dumps(pair(number)) + "\n" for number in range(50))
    (path / "half.jsonl").write_text(lines + json.dumps(pair(50))[:40])
    return path / "half.jsonl"


def torn_parquet(path: Path) -> Path:
    data = write_parquet(path / "torn.parquet", [pair(1)]).read_bytes()
    (path / "torn.parquet").write_bytes(data[:-20])
    return path / "torn.parquet"


def torn_squad(path: Path) -> Path:
    (path / "torn-fr.json").write_text('{"data": [')
    return path / "torn-fr.json"


def other_json(path: Path) -> Path:
    (path / "other-fr.json").write_text('{"passages": []}')
    return path / "other-fr.json"


def nameless_squad(path: Path) -> Path:
    (path / "mine.json").write_text('{"data": []}')
    return path / "mine.json"


def empty_folder(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def empty_file(path: Path) -> Path:
    (path / "empty.jsonl.gz").write_bytes(b"")
    return path / "empty.jsonl.gz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torn_gzip, r"torn\.jsonl\.gz is torn after line \d+ "),
        (not_gzip, r"plain\.jsonl\.gz is torn after line 0 .*[Nn]ot a gzipped file"),
        (latin, r"latin\.jsonl:1 is not UTF-8 text"),
        (utf16, r"wide\.jsonl:1 is not UTF-8 text"),
        (half_a_line, r"1 bad rows of 51.*half\.jsonl:51: half-written last line"),
        (torn_parquet, r"torn\.parquet is torn or no parquet file, after row 0"),
        (torn_squad, r"torn-fr\.json: not JSON"),
        (other_json, r"other-fr\.json: expected an object with a list named 'data'"),
        (nameless_squad, r"cannot tell the language .* name it mine-en\.json or -fr\.json"),
        (empty_folder, r"empty: nothing to read: expected \*\.jsonl"),
        (empty_file, r"empty\.jsonl\.gz: no row to train on"),
        (lambda path: path / "absent.jsonl", r"no such data: .*absent\.jsonl is neither"),
    ],
)
def test_a_broken_source_is_one_clear_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(pair(0)).encode() + b"\n\n  \n" + json.dumps(pair(1)).encode())
    assert sorted(ids(read(path))) == [0, 1]


# ---------------------------------------------------------------- SQuAD

EN = {
    "Bridges": [("The bridge is long.", {"a": "How long?", "b": "Which bridge?"}), ("The arch is old.", {"c": "Age?"})],
    "Rivers": [("The Loire flows west.", {"d": "Where to?"}), ("It is 1,006 km long.", {"e": ""}), ("A delta.", {})],
}
FR = {
    "Ponts": [("Le pont est long.", {"a": "Quelle longueur ?", "b": "Quel pont ?"}), ("L'arche est vieille.", {})],
    "Fleuves": [("La Loire coule vers l'ouest.", {"d": "Vers où ?"})],
}


def write_squad(path: Path, themes: dict[str, list[tuple[str, dict[str, str]]]]) -> Path:
    def asked(questions: dict[str, str]) -> list[dict[str, Any]]:
        rows = [{"id": key, "question": text, "is_impossible": False} for key, text in questions.items()]
        return [*rows, {"id": f"none-{len(rows)}", "question": "Unanswerable?", "is_impossible": True}]

    data = [
        {"title": title, "paragraphs": [{"context": text, "qas": asked(questions)} for text, questions in paragraphs]}
        for title, paragraphs in themes.items()
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": data}, ensure_ascii=False), encoding="utf-8")
    return path


def test_squad_in_two_languages_is_joined_with_same_theme_negatives(tmp_path: Path) -> None:
    write_squad(tmp_path / "train-en.json", {**EN, "More": [(f"Text {i}.", {f"m{i}": "What?"}) for i in range(99)]})
    write_squad(tmp_path / "train-fr.json", FR)
    found = read(tmp_path)
    rows: dict[Any, TextRow] = {row.id: row for row in (*found.train, *found.validation)}
    assert set(rows) == {"a", "b", "c", "d", *(f"m{i}" for i in range(99))}
    assert rows["a"].queries == {"english": "How long?", "french": "Quelle longueur ?"}
    assert rows["a"].positives == {"english": "The bridge is long.", "french": "Le pont est long."}
    assert [dict(negative.sides) for negative in rows["a"].negatives] == [{"english": "The arch is old."}]
    assert [negative.sides["french"] for negative in rows["c"].negatives] == ["Le pont est long."]
    assert [negative.sides["english"] for negative in rows["d"].negatives] == ["It is 1,006 km long.", "A delta."]
    # the nearest paragraphs of the article, on both sides, and no more than 30
    nearest = [negative.sides["english"] for negative in rows["m50"].negatives]
    assert nearest[:4] == ["Text 49.", "Text 51.", "Text 48.", "Text 52."]
    assert len(nearest) == 30
    assert {negative.score for negative in rows["m50"].negatives} == {0.0}
    assert len(found.bad) == 1
    assert "question e: the question is empty" in found.bad[0]


def test_squad_in_one_language_reads_it_from_the_name(tmp_path: Path) -> None:
    rows = read(write_squad(tmp_path / "piaf_fr.json", FR)).train
    assert {language for row in rows for language in row.queries} == {"french"}
    rows = read(write_squad(tmp_path / "train-v2.0.json", {"Bridges": EN["Bridges"]})).train
    assert {language for row in rows for language in row.positives} == {"english"}


# ---------------------------------------------------------------- streams


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of `datasets` wait 5 s for their threads when they end."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three parquet files, as the Hub keeps them."""
    folder = tmp_path_factory.mktemp("hub")
    for part in range(3):
        rows = [pair(number) for number in range(100 * part, 100 * part + 100)]
        write_parquet(folder / f"train-{part:05d}-of-00003.parquet", rows)
    return folder


def hub_ids(folder: Path, seed: int, epoch: int) -> list[int]:
    entries = hub_entries(str(folder), seed, epoch, buffer=50)
    return [values["id"] for _, values in entries if isinstance(values, dict)]


def test_a_stream_gives_every_row_once_an_epoch_in_an_order_of_seed_and_epoch(hub_folder: Path) -> None:
    first = hub_ids(hub_folder, 3, 0)
    assert sorted(first) == list(range(300))
    assert first == hub_ids(hub_folder, 3, 0)
    assert first not in (hub_ids(hub_folder, 3, 1), hub_ids(hub_folder, 4, 0), sorted(first))
    place, values = next(hub_entries(str(hub_folder), 3, 0, buffer=50))
    assert place == f"{hub_folder}: row 1 of the stream, id {first[0]}"
    assert parse_row(values) == parse_row(pair(first[0]))


def test_what_is_not_on_the_hub_is_one_clear_line() -> None:
    assert is_on_hub("cmarkea/mmarco-contrastive")
    assert not is_on_hub("data/pairs.jsonl.gz")
    with pytest.raises(ValueError, match="cannot read the data set nobody/nothing after row 0") as caught:
        read_rows(Source("nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_a_stream_of_files_holds_its_buffer_only(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [pair(number) for number in range(3_000)])
    taken = 0

    def counted(file: Path) -> Iterator[FileEntry]:
        nonlocal taken
        for entry in line_entries(file):
            taken += 1
            yield entry

    stream = file_stream([path], counted, seed=0, epoch=0, buffer=100)
    assert len(list(islice(stream, 200))) == 200
    assert taken <= 310


def test_a_streamed_source_never_trains_on_what_it_holds_out(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(400)]
    path = write_lines(tmp_path / "rows.jsonl.gz", [*rows[:100], "{", *rows[100:]])
    whole, streamed = read(path), read(path, stream=True)
    held_out = {row.group for row in whole.validation}
    assert {row.group for row in streamed.validation} == held_out
    assert streamed.bad == whole.bad == [f"{path}:101: {whole.bad[0].partition(': ')[2]}"]
    assert streamed.stream is not None
    two_epochs = [row.id for row in islice(streamed.stream(0), 2 * len(whole.train))]
    assert sorted(two_epochs[: len(whole.train)]) == sorted(row.id for row in whole.train)
    assert sorted(two_epochs[len(whole.train) :]) == sorted(row.id for row in whole.train)
    assert two_epochs[: len(whole.train)] != two_epochs[len(whole.train) :]
    assert 0 < len(held_out) < 40


def test_too_many_bad_rows_stop_a_stream_on_its_way(tmp_path: Path) -> None:
    rows: list[Any] = [pair(number) for number in range(1_500)]
    found = read(write_lines(tmp_path / "rows.jsonl", rows), stream=True)
    write_lines(tmp_path / "rows.jsonl", [*rows, *["{}"] * 40])
    assert found.stream is not None
    with pytest.raises(ValueError, match=r"bad rows of 1\d\d\d, at most 1 % may be"):
        list(islice(found.stream(0), 1_600))


def test_a_passage_is_held_out_in_every_order_and_mixture(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(300)]
    forward = read(write_lines(tmp_path / "forward.jsonl", rows))
    backward = read(write_lines(tmp_path / "backward.jsonl", rows[::-1]))
    assert {row.id for row in forward.validation} == {row.id for row in backward.validation}
    expected = {row["id"] for row in rows if text_group(row["positive"]["english"]) % VALIDATION_EVERY == 0}
    assert {row.id for row in forward.validation} == expected


def test_equal_texts_share_their_memory(tmp_path: Path) -> None:
    rows = [{**pair(number), "positive": {"french": "Un même passage, très long."}} for number in range(3)]
    found = read(write_lines(tmp_path / "rows.jsonl", rows))
    texts = [row.positives["french"] for row in (*found.train, *found.validation)]
    assert all(text is texts[0] for text in texts)


def test_bad_row_is_a_value_error() -> None:
    with pytest.raises(BadRowError, match="expected an object, but got str"):
        parse_row("text")


# ---------------------------------------------------------------- streams in batches


def test_batches_of_a_stream_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    streamed = write_lines(tmp_path / "streamed.jsonl", [pair(number) for number in range(200)])
    local = write_lines(tmp_path / "local.jsonl", [pair(number) for number in range(1000, 1100)])

    def batches(*steps: int) -> list[list[Any]]:
        sources = [read(streamed, stream=True), read(local, weight=2)]
        sampler = RowSampler(cast("list[TokenRows]", sources), np.zeros(0, dtype=bool), DataConfig(), seed=5)
        return [[row.id for row in sampler.rows(12, step, sampler.rng(step))] for step in steps]

    whole = batches(*range(40))
    taken = [number for batch in whole for number in batch if number < 1000]
    assert 120 < len(taken) < 200  # a third of the draws
    assert len(set(taken)) == len(taken)  # the stream goes on where the step before ended
    assert batches(*range(17, 40)) == whole[17:]  # a run that resumes skips what was used
    assert batches(3, 39, 3, 0) == [whole[3], whole[39], whole[3], whole[0]]
    assert [number for batch in batches(1, 1) for number in batch] != [*whole[0], *whole[1]]


def test_tokenised_streams_are_the_tokenised_rows(tmp_path: Path, tiny_bloom: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_bloom / "tokenizer.json"))
    path = write_lines(tmp_path / "rows.jsonl", [pair(number) for number in range(150)])
    data = DataConfig(max_length=5, negatives=1)
    plain = tokenize_rows(read(path), tokenizer, data)
    streamed = tokenize_rows(read(path, stream=True), tokenizer, data)
    assert streamed.stream is not None
    rows = {row.id: row for row in islice(streamed.stream(0), len(plain.train))}
    assert set(rows) == {row.id for row in plain.train}
    for row in plain.train:
        assert len(row.negatives) == 1  # of two, the one below 0.8
        assert row.negatives[0].score == 0.25
        expected = tokenizer.encode(pair(row.id)["query"]["french"], add_special_tokens=False).ids[:5]
        assert row.queries["french"].tolist() == rows[row.id].queries["french"].tolist() == expected
    after = [row.id for row in islice(streamed.stream(30), 20)]
    assert after == [row.id for row in islice(streamed.stream(0), 50)][30:]
