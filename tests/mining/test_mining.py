"""`bloomz mine`: against a plain way, with duplicates and translations planted, killed in the middle, read back."""

import gzip
import json
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from bloomz_haystack.cli import main as cli
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.mining import hard_negatives as mining
from bloomz_haystack.mining.corpus import passages_of, questions_of
from bloomz_haystack.mining.hard_negatives import MiningSettings, MiningSummary, mine_negatives
from bloomz_haystack.mining.text_number import text_number
from bloomz_haystack.training.config import Source
from bloomz_haystack.training.data.rows import parse_row
from bloomz_haystack.training.data.sources import read_rows
from haystack_integrations.common.bloomz import pair_scores
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities

ENGLISH = ["bridge", "river", "tower", "garden", "school", "winter", "island", "window", "music", "bread"]
FRENCH = ["pont", "fleuve", "tour", "jardin", "école", "hiver", "île", "fenêtre", "musique", "pain"]
COUNT = 5
SECONDS = 600  # an end for what hangs, also on a slow machine


class Quiet:
    """Shows nothing."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        return lambda units: None


def both(english: str | None, french: str | None) -> dict[str, str | None]:
    return {"english": english, "french": french}


def made_up(number: int) -> dict[str, Any]:
    """A third of the rows in both languages, a third in English, a third in French."""
    words = np.random.default_rng(number).integers(10, size=6)
    query = both(f"Which {ENGLISH[words[0]]}?", f"Quel {FRENCH[words[0]]} ?")
    positive = both(
        " ".join(ENGLISH[word] for word in words) + f" {number}.",
        " ".join(FRENCH[word] for word in words) + f" {number}.",
    )
    absent = [None, "french", "english"][number % 3]
    if absent:
        query[absent] = positive[absent] = None
    return {"id": number, "query": query, "positive": positive}


PLANTED = [
    # answers the question of row 0 too, because it is asked the same
    {"id": "same question", "query": made_up(0)["query"], "positive": both("Another answer.", "Une autre réponse.")},
    # the passage of row 0 once more, in other white space and case, and one side of it only
    {"id": "twin", "query": None, "positive": both(str(made_up(0)["positive"]["english"]).upper() + "  ", None)},
    # the English passage of row 1 gains its translation here
    {"id": "translated", "query": None, "positive": both(made_up(1)["positive"]["english"], "Traduit.")},
    # without a question, and hard on tokenizers
    {"id": "unicode", "query": None, "positive": both("🙂 " * 5 + "\u202e\x00 ﷽", None)},
]
ROWS = [*(made_up(number) for number in range(24)), *PLANTED]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    return path


@pytest.fixture(scope="module")
def settings(tiny_bloom: Path, tiny_ranker: Path) -> MiningSettings:
    return MiningSettings(str(tiny_bloom), str(tiny_ranker), COUNT)


@pytest.fixture(scope="module")
def mined(data: Path, settings: MiningSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in blocks of four questions."""
    out = tmp_path_factory.mktemp("whole") / "mined"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "BLOCK_QUESTIONS", 4)
        summary = mine_negatives([data], out, settings, Quiet())
    assert (summary.questions, summary.blocks, summary.blocks_found) == (25, 7, 0)
    assert summary.negatives == 25 * COUNT
    return out


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*.gz"))}


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for data in parts(out).values() for line in gzip.decompress(data).splitlines()]


def folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def plainly(settings: MiningSettings) -> list[list[tuple[dict[str, Any], float]]]:
    """For each question: all texts by cosine, answers and repetitions struck out, the first few scored one by one."""
    encoder = Encoder(open_checkpoint(settings.retriever, "embed"))
    scorer = Scorer(open_checkpoint(settings.ranker, "rank"))
    passages: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        for text in filter(None, row["positive"].values()):
            known = passages.get(folded(text), {})
            if sum(map(bool, row["positive"].values())) > sum(map(bool, known.values())):
                passages[folded(text)] = row["positive"]
    texts = {folded(text): text for row in reversed(ROWS) for text in row["positive"].values() if text}
    asked = questions_of(map(parse_row, ROWS), passages_of(map(parse_row, ROWS)), None, settings.seed)
    vectors = {key: encoder.encode([text])[0] for key, text in texts.items()}
    result = []
    for question in asked:
        gold = {
            folded(text)
            for row in ROWS
            if row["query"] and set(row["query"].values()) & set(question.queries.values())
            for side in filter(None, row["positive"].values())
            for text in filter(None, passages[folded(side)].values())
        }
        query = encoder.encode([question.text])[0]
        cosines = {key: float(vector @ query) for key, vector in vectors.items()}
        found: list[tuple[dict[str, Any], float]] = []
        for key in sorted(cosines, key=lambda key: -cosines[key]):
            sides = {folded(text) for text in filter(None, passages[key].values())}
            if sides & gold:
                continue
            gold |= sides
            found.append((passages[key], float(probabilities(scorer.score(question.text, [texts[key]]))[0])))
        result.append(sorted(found[:COUNT], key=lambda item: -item[1]))
    return result


def test_every_negative_and_score_is_that_of_the_plain_way(mined: Path, settings: MiningSettings) -> None:
    rows, expected = rows_of(mined), plainly(settings)
    assert [row["id"] for row in rows] == [*range(24), "same question"]
    for row, plain in zip(rows, expected, strict=True):
        assert [both(item["english"], item["french"]) for item in row["negatives"]] == [item for item, _ in plain]
        np.testing.assert_allclose([item["score"] for item in row["negatives"]], [s for _, s in plain], atol=2e-6)


def test_what_answers_is_no_negative_and_a_side_that_exists_is_there(mined: Path) -> None:
    rows = {row["id"]: row for row in rows_of(mined)}
    texts = {key: {item[side] for item in strip_scores(row) for side in item} for key, row in rows.items()}
    for key, row in rows.items():
        assert not {folded(text) for text in row["positive"].values() if text} & {
            folded(text) for text in texts[key] if text
        }
    assert {"Another answer.", "Une autre réponse."}.isdisjoint(texts[0])
    assert set(filter(None, made_up(0)["positive"].values())).isdisjoint(texts["same question"])
    # Negative control: the same passages are found for others.
    others = set().union(*(found for key, found in texts.items() if key not in (0, "same question")))
    assert {"Another answer.", str(made_up(0)["positive"]["english"])} & others
    pairs = [(item["english"], item["french"]) for row in rows.values() for item in row["negatives"]]
    assert all(french == "Traduit." for english, french in pairs if english == made_up(1)["positive"]["english"])
    assert (made_up(2)["positive"]["english"], None) not in pairs
    assert (None, made_up(2)["positive"]["french"]) in pairs


def test_the_folder_reads_back_as_training_data(mined: Path) -> None:
    rows = read_rows(Source(str(mined)))
    assert rows.bad == []
    assert len(rows.train) + len(rows.validation) == 25
    assert all(len(row.negatives) == COUNT for row in rows.train)
    assert rows.train[0].negatives[0].score >= rows.train[0].negatives[-1].score
    kept = yaml.safe_load((mined / "mining.yaml").read_text(encoding="utf-8"))
    assert kept["settings"]["negatives"] == COUNT
    assert [entry.split()[0] for entry in kept["settings"]["data"]] == ["pairs.jsonl.gz"]
    assert kept["summary"]["questions"] == 25
    assert str(mined.parent.parent) not in (mined / "mining.yaml").read_text(encoding="utf-8")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from test_mining import Quiet
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.mining import hard_negatives as mining
from bloomz_haystack.mining.folder import MiningFolder
mining.BLOCK_QUESTIONS = 4
write_part = MiningFolder.write_part
def die_at_the_third(folder, number, rows):
    if number == 2:
        (folder.folder / "part-00002.jsonl.gzx.part").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write_part(folder, number, rows)
MiningFolder.write_part = die_at_the_third
settings = mining.MiningSettings(sys.argv[3], sys.argv[4], 5)
shard = Shard(*map(int, sys.argv[6:]))
mining.mine_negatives([Path(sys.argv[1])], Path(sys.argv[2]), settings, Quiet(), shard=shard)
"""


@pytest.mark.slow
def test_kill_9_then_the_same_command_gives_the_same_files(
    data: Path, settings: MiningSettings, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mined"
    arguments = [str(data), str(out), settings.retriever, settings.ranker, str(Path(__file__).parent)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(parts(out)) == ["part-00000.jsonl.gz", "part-00001.jsonl.gz"]
    monkeypatch.setattr(mining, "BLOCK_QUESTIONS", 4)
    before = (out / "part-00001.jsonl.gz").stat().st_mtime_ns
    summary = mine_negatives([data], out, settings, Quiet())
    assert (summary.blocks, summary.blocks_found, summary.embedded) == (7, 2, 0)
    assert (out / "part-00001.jsonl.gz").stat().st_mtime_ns == before
    assert parts(out) == parts(mined)
    assert not list(out.glob("*.part"))
    assert mine_negatives([data], out, settings, Quiet()).blocks_found == 7


def test_shards_of_one_folder_give_the_bytes_of_one_run(
    data: Path, settings: MiningSettings, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "BLOCK_QUESTIONS", 4)
    out = tmp_path / "mined"
    out.mkdir()
    others, own = out / "part-00000.jsonl.gz.0.part", out / "part-00001.jsonl.gz.0.part"  # as if written just now
    others.touch()
    own.touch()
    summary = mine_negatives([data], out, settings, Quiet(), shard=Shard(1, 3))
    assert (summary.questions, summary.blocks, summary.blocks_found) == (8, 2, 0)
    assert list(parts(out)) == ["part-00001.jsonl.gz", "part-00004.jsonl.gz"]
    assert others.exists()
    assert not own.exists()
    for index in (0, 2):
        mine_negatives([data], out, settings, Quiet(), shard=Shard(index, 3))
    assert parts(out) == parts(mined)
    assert "summary" not in yaml.safe_load((out / "mining.yaml").read_text(encoding="utf-8"))
    summary = mine_negatives([data], out, settings, Quiet())  # finds nothing to do, and writes the summary
    assert (summary.questions, summary.blocks_found, summary.embedded) == (25, 7, 0)
    assert yaml.safe_load((out / "mining.yaml").read_text(encoding="utf-8"))["summary"]["questions"] == 25
    assert [row.id for row in read_rows(Source(str(out))).train] == [
        row.id for row in read_rows(Source(str(mined))).train
    ]
    other = MiningSettings(settings.retriever, settings.ranker, COUNT + 1)
    with pytest.raises(ValueError, match="was started with another negatives"):
        mine_negatives([data], out, other, Quiet(), shard=Shard(0, 3))


@pytest.mark.slow
def test_shards_at_once_one_of_them_killed_give_the_bytes_of_one_run(
    data: Path, settings: MiningSettings, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mined"
    arguments = [str(data), str(out), settings.retriever, settings.ranker, str(Path(__file__).parent)]
    command = [sys.executable, "-c", KILLED, *arguments]
    running = [
        subprocess.Popen([*command, str(index), "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for index in (0, 1)
    ]
    errors = [process.communicate(timeout=SECONDS)[1] for process in running]
    assert [process.returncode for process in running] == [-signal.SIGKILL, 0], errors
    assert [int(name[5:10]) for name in parts(out)] == [0, 1, 3, 5]
    monkeypatch.setattr(mining, "BLOCK_QUESTIONS", 4)
    summary = mine_negatives([data], out, settings, Quiet(), shard=Shard(0, 2))
    assert (summary.blocks, summary.blocks_found, summary.embedded) == (4, 1, 0)
    assert parts(out) == parts(mined)
    assert not list(out.glob("*.part"))


def test_other_settings_other_data_and_a_stranger_s_folder_are_refused(
    data: Path, settings: MiningSettings, mined: Path, tmp_path: Path
) -> None:
    other = MiningSettings(settings.retriever, settings.ranker, COUNT + 1, seed=4)
    with pytest.raises(ValueError, match="was started with another block, negatives, seed: resume with the same"):
        mine_negatives([data], mined, other, Quiet())
    changed = tmp_path / "pairs.jsonl"
    changed.write_text(json.dumps(made_up(3)) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="was started with another block, data"):
        mine_negatives([changed], mined, settings, Quiet())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis\.txt\): give a new or an empty folder"):
        mine_negatives([changed], tmp_path / "full", settings, Quiet())
    with pytest.raises(ValueError, match="is a file, but --out must name a folder"):
        mine_negatives([changed], changed, settings, Quiet())


def test_passages_that_do_not_fit_together_give_the_same_scores(
    settings: MiningSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(settings.ranker, "rank")
    passages = [*(f"Le pont {number} est à Nantes." for number in range(9)), "🙂" * 40, ""]
    pairs = [(passage, question) for question in ("Où ?", "Where is bridge 4?") for passage in passages]
    pairs += [("Once only.", "Une fois ?")]
    plain = probabilities(Scorer(checkpoint).score_pairs(pairs))
    done: list[int] = []
    np.testing.assert_allclose(
        probabilities(pair_scores.score_pairs(checkpoint, pairs, 2048, done.append)), plain, atol=1e-5
    )
    assert sum(done) == len(pairs)
    monkeypatch.setattr(pair_scores, "HELD_BYTES", 20_000)
    groups = list(pair_scores._fitting(passages, 60))
    assert [len(group) for group in groups] == [2, 2, 2, 2, 1, 1, 1]
    np.testing.assert_allclose(
        probabilities(pair_scores.score_pairs(checkpoint, pairs, 2048, done.append)), plain, atol=1e-5
    )
    assert np.abs(plain[:11] - plain[11:22]).max() > 1e-3  # negative control: the question matters


def test_a_corpus_of_its_own_is_searched_instead(data: Path, settings: MiningSettings, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = [both(f"A {word}.", f"Un {other}.") for word, other in zip(ENGLISH, FRENCH, strict=True)]
    rows = [{"positive": text} for text in [*texts, made_up(0)["positive"]]]
    corpus.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    mine_negatives([data], tmp_path / "mined", settings, Quiet(), [corpus])
    rows = rows_of(tmp_path / "mined")
    assert all(item in [*texts, made_up(0)["positive"]] for row in rows[1:] for item in strip_scores(row))
    assert made_up(0)["positive"] not in strip_scores(rows[0])


def strip_scores(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [both(item["english"], item["french"]) for item in row["negatives"]]


SAID = "L'indemnité de congé « maternité » est versée - seize semaines - par la caisse."


@pytest.mark.parametrize(
    "spelling",
    [
        unicodedata.normalize("NFD", SAID),
        SAID.replace("'", "’"),
        SAID.replace("«", '"').replace("»", '"'),
        SAID.replace(" - ", " — "),
        SAID.replace(" ", "\u00a0", 2),
        SAID.replace("seize", "sei\u00adze").replace("caisse", "cais\u200bse"),
        SAID.upper(),
        SAID.removesuffix(".") + " ",
        SAID.replace("est", "\nest"),
    ],
)
def test_a_passage_in_another_spelling_is_no_negative_of_itself(
    spelling: str, settings: MiningSettings, tmp_path: Path
) -> None:
    texts = [SAID, spelling, "Le parking ferme à vingt heures.", "The car park closes at eight."]
    rows = [
        {"id": number, "query": both(None, f"MiningQuestion {number} ?"), "positive": both(None, text)}
        for number, text in enumerate(texts)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mine_negatives([tmp_path / "rows.jsonl"], tmp_path / "out", settings, Quiet())
    (part,) = (tmp_path / "out").rglob("*.jsonl.gz")
    with gzip.open(part, "rt", encoding="utf-8") as file:
        negatives = {row["id"]: {n["french"] for n in row["negatives"]} for row in map(json.loads, file)}
    assert negatives[0] == negatives[1] == set(texts[2:])
    assert len(negatives[2]) == 2


def test_passages_that_differ_by_a_word_are_two() -> None:
    assert len({text_number(text) for text in ("un pont", "un point", "deux ponts", "🙂", "🙃", "5 ans", "6 ans")}) == 7


def test_a_sample_depends_on_its_seed(settings: MiningSettings, data: Path) -> None:
    rows = [parse_row(row) for row in ROWS]
    corpus = passages_of(rows)
    picked = [[question.id for question in questions_of(rows, corpus, 6, seed)] for seed in (0, 0, 1)]
    assert len(picked[0]) == 6
    assert picked[0] == picked[1] != picked[2]
    assert {question.language for question in questions_of(rows, corpus, None, 0) if question.id == 2} == {"french"}
    languages = [question.language for question in questions_of(rows, corpus, None, 0) if len(question.queries) == 2]
    assert {"english", "french"} == set(languages)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, ["mine", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_line(
    data: Path,
    settings: MiningSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bloomz_haystack.cli.mine.quiet_libraries", lambda: None)
    models = ["--retriever", settings.retriever, "--ranker", settings.ranker]
    code, printed, _ = run(
        "--data", data, *models, "--negatives", 3, "--limit", 5, "--out", tmp_path / "mined", "--json"
    )
    assert code == 0
    summary = json.loads(printed or capfd.readouterr().out)
    assert (summary["questions"], summary["negatives"], summary["bad"]) == (5, 15, [])
    for arguments, message in (
        (["--data", tmp_path / "absent.jsonl"], "no such data"),
        (["--data", data, "--negatives", 0], "--negatives must be > 0, but got 0"),
        (["--data", data, "--limit", -1], "--limit must be > 0, but got -1"),
        (["--data", data, "--shard", "3/3"], "--shard must be I/N with I from 0 to N - 1, as 3/16, but got '3/3'"),
        (["--data", data, "--shard", "2"], "--shard must be I/N with I from 0 to N - 1, as 3/16, but got '2'"),
        (["--data", data, "--retriever", "absent-model"], "absent-model is not available here"),
    ):
        code, _, error = run("--out", tmp_path / "other", *models, *arguments)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_rows_without_any_question_are_one_line(settings: MiningSettings, tmp_path: Path) -> None:
    path = tmp_path / "silent.jsonl"
    path.write_text('{"query": null, "positive": {"french": "Un pont."}}\n{"english": "A.", "french": "Un."}\n')
    with pytest.raises(ValueError, match=r"no question in .*silent\.jsonl: nothing to mine for"):
        mine_negatives([path], tmp_path / "mined", settings, Quiet())


def test_summary_says_what_an_earlier_run_did() -> None:
    assert "2 of 7 blocks by an earlier run" in MiningSummary("out", blocks=7, blocks_found=2).as_text()
