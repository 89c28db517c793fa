"""Rows as data: the bundled entries, a user's over them, names of the command line, and the wrong ones in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bloomz_haystack.benchmark.systems.systems import Ranker, System, choose_ranker, choose_systems, read_systems

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Save a YAML file and give its path."""

    def save(text: str) -> Path:
        path = tmp_path / "mes-systemes.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return save


def test_every_row_of_both_cards_is_an_entry() -> None:
    systems, rankers = read_systems()
    labels = {system.label for system in systems.values()}
    assert labels >= {"BM25", "CamemBERT", "STS-CamemBERT", "Sentence-BERT", "E5-base", "E5-large"}
    assert labels >= {f"Bloomz-{size}-retriever{version}" for size in ("560m", "3b") for version in ("", "-v2")}
    assert {ranker.label for ranker in rankers.values()} >= {
        "CamemBERT cross-encoder",
        "DistilCamemBERT cross-encoder",
        "mMiniLMv2-L12 cross-encoder",
        "bloomz-560m-reranking",
        "bloomz-3b-reranking",
    }


def test_what_the_cards_say_of_the_models() -> None:
    systems, rankers = read_systems()
    e5 = systems["e5-large"]
    assert (e5.query_prefix, e5.passage_prefix, e5.pooling) == ("query: ", "passage: ", "mean")
    assert [systems[f"bloomz-560m-retriever{version}"].metric for version in ("", "-v2")] == ["l2", "cosine"]
    assert systems["bloomz-3b-retriever"].pooling == "last"
    assert (systems["bm25"].stemming, systems["bm25-stemmed"].stemming) == (False, True)
    assert systems["hybrid-tiny"].of == systems["hybrid-tiny-rrf"].of == ("bm25-store", "tiny-fr-en-retriever")
    assert [systems[name].fusion for name in ("hybrid-tiny", "hybrid-tiny-rrf")] == ["convex", "rrf"]
    assert [systems[name].words for name in ("bm25", "bm25-stemmed", "bm25-store")] == ["bm25s", "bm25s", "store"]
    assert rankers["bloomz-560m-reranking"].context_first
    assert not rankers["camembert-cross-encoder"].context_first
    assert {ranker.score_prior for ranker in rankers.values()} == {None}  # each model's own


def test_a_file_of_the_user_adds_and_replaces(write: Write) -> None:
    path = write(
        "systems:\n"
        "  mon-modele: {kind: encoder, model: moi/modele, pooling: cls, metric: dot, query_prefix: 'question : ',\n"
        "    passage_prefix: 'texte : ', max_length: 256, revision: v1, label: Le mien}\n"
        "  bm25: {kind: bm25, label: Mon BM25}\n"
        "  both: {kind: hybrid, of: [bm25, mon-modele]}\n"
        "rankers:\n"
        "  mon-juge: {model: moi/juge, context_first: false}\n"
    )
    systems, rankers = read_systems(path)
    assert systems["mon-modele"] == System(
        "mon-modele", "Le mien", "encoder", "moi/modele", "v1", "cls", "dot", "question : ", "texte : ", 256
    )
    assert systems["bm25"].label == "Mon BM25"
    assert systems["both"] == System("both", "both", "hybrid", of=("bm25", "mon-modele"))
    assert rankers["mon-juge"] == Ranker("mon-juge", "mon-juge", "moi/juge", context_first=False)
    assert "e5-base" in systems


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "systems: {a: {kind: encoder, model: m/n, poling: mean}}",
            r"systems\.a: unknown key 'poling' \(did you mean 'pooling'\?\); known are name, label,",
        ),
        ("systems: {a: {kind: oracle}}", r"systems\.a\.kind: expected 'bm25', 'encoder' or 'hybrid', but got 'oracle'"),
        ("systems: {a: {kind: encoder, model: m/n, pooling: max}}", "a.pooling: expected 'last', 'mean' or 'cls', but"),
        ("systems: {a: {kind: encoder, model: m/n, metric: L1}}", "a.metric: expected 'cosine', 'l2' or 'dot', but"),
        ("systems: {a: {kind: bm25, stemming: 1}}", "a.stemming: expected true or false, but got 1"),
        ("systems: {a: {kind: encoder, model: m/n, max_length: 0}}", "a.max_length: expected a number greater than 0"),
        ("systems: {a: {kind: encoder, model: m/n, max_length: true}}", "a.max_length: expected a whole number"),
        ("systems: {a: {kind: encoder, model: 3}}", "a.model: expected a text, but got 3"),
        ("systems: {a: {kind: encoder}}", "systems.a: lacks the key 'model', which an encoder needs"),
        ("systems: {a: {model: m/n}}", "systems.a: lacks the key 'kind'"),
        ("systems: {a: {kind: hybrid, of: [bm25]}}", "systems.a: of: expected a list of at least two names"),
        ("systems: {a: {kind: hybrid}}", "systems.a: is of kind 'hybrid': a hybrid, and only a hybrid, has 'of'"),
        ("systems: {a: {kind: hybrid, of: [bm25, b]}}", "a: of: expected names among bm25, .*, got 'b'"),
        ("systems: {a: {kind: hybrid, of: [bm25, hybrid-tiny]}}", "expected names among .*, got 'hybrid-tiny'"),
        (
            "systems: {a: {kind: hybrid, of: [bm25, e5-base], fusion: sum}}",
            "a.fusion: expected 'convex' or 'rrf', but got 'sum'",
        ),
        (
            "systems: {a: {kind: hybrid, of: [bm25, bloomz-560m-retriever], fusion: convex}}",
            "a: fusion: 'convex' adds cosines, but the metric of 'bloomz-560m-retriever' is 'l2': leave fusion out, or",
        ),
        (
            "systems: {a: {kind: bm25, of: [bm25, e5-base]}}",
            "systems.a: is of kind 'bm25': a hybrid, and only a hybrid, has 'of'",
        ),
        ("systems: {a: encoder}", "systems.a: expected a mapping of name, label, kind, .*, but got 'encoder'"),
        ("systems: [a]", r"systems: expected a mapping, but got \['a'\]"),
        ("system: {}", r"unknown key 'system' \(did you mean 'systems'\?\); known are systems, rankers"),
        ("- a", r"expected a mapping of systems, rankers, but got \['a'\]"),
        ("a: [", "cannot read .*mes-systemes.yaml"),
        ("rankers: {a: {context_first: true}}", "rankers.a: lacks the key 'model'"),
        ("rankers: {a: {model: m/n, pooling: mean}}", "rankers.a: unknown key 'pooling'"),
        ("rankers: {a: {model: m/n, score_prior: -1}}", "a.score_prior: expected a number greater than or equal to 0"),
        ("rankers: {a: {model: m/n, score_prior: .nan}}", "a.score_prior: expected a finite number"),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_entry_and_key(write: Write, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        read_systems(write(text))
    assert "mes-systemes.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*rien\.yaml"):
        read_systems(tmp_path / "rien.yaml")


def test_all_and_a_list_keep_their_order() -> None:
    systems, _ = read_systems()
    assert choose_systems("all", systems).rows == list(systems.values())
    rows = choose_systems(" e5-base, bm25 ,e5-base", systems).rows
    assert [row.name for row in rows] == ["e5-base", "bm25"]


def test_a_folder_and_a_hub_name_take_the_arguments(tmp_path: Path) -> None:
    systems, _ = read_systems()
    folder = tmp_path / "mon-modele"
    folder.mkdir()
    given = {"pooling": "cls", "metric": "l2", "query_prefix": "q: ", "passage_prefix": "p: ", "max_length": 64}
    own, hub, known = choose_systems(f"{folder},moi/modele,e5-base", systems, given).rows
    assert own == System(str(folder), "mon-modele", "encoder", str(folder), None, "cls", "l2", "q: ", "p: ", 64)
    assert (hub.model, hub.label, hub.pooling, hub.query_prefix) == ("moi/modele", "moi/modele", "cls", "q: ")
    assert known == systems["e5-base"]
    assert choose_systems("moi/modele", systems).rows[0].pooling is None


def test_a_plus_fuses(tmp_path: Path) -> None:
    systems, _ = read_systems()
    folder = tmp_path / "a+b"  # a folder is itself, whatever its name
    folder.mkdir()
    choice = choose_systems(f"bm25+moi/modele,hybrid-tiny+e5-base,{folder}", systems, {"metric": "dot"})
    fused, nested, alone = choice.rows
    assert (fused.kind, fused.of, fused.label) == ("hybrid", ("bm25", "moi/modele"), "BM25 + moi/modele")
    assert [part.model for part in choice.parts(fused)] == ["", "moi/modele"]
    assert choice.parts(fused)[1].metric == "dot"
    assert nested.of == ("bm25-store", "tiny-fr-en-retriever", "e5-base")
    assert [choice.fusion(row) for row in (fused, nested)] == ["rrf", "convex"]  # a dot product is no share
    assert choose_systems("hybrid-tiny-rrf+e5-base", systems).rows[0].fusion == "rrf"
    assert (alone.kind, choice.parts(alone)) == ("encoder", [alone])
    assert "moi/modele" not in systems


@pytest.mark.parametrize("wanted", ["bm52", "bm25,rien", "bm25+rien", "./rien", "a/b/c", "bm25+"])
def test_an_unknown_name_lists_the_known(wanted: str) -> None:
    systems, _ = read_systems()
    with pytest.raises(
        ValueError, match=r"unknown system '.*expected a folder, a Hub name owner/name, or one of bm25,"
    ):
        choose_systems(wanted, systems)


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'e5-large'\?"):
        choose_systems("e5large", read_systems()[0])


def test_wrong_arguments() -> None:
    systems, _ = read_systems()
    with pytest.raises(ValueError, match="no system was named"):
        choose_systems(" , ", systems)
    with pytest.raises(
        ValueError, match="system 'moi/modele': pooling: expected 'last', 'mean' or 'cls', but got 'max'"
    ):
        choose_systems("moi/modele", systems, {"pooling": "max"})


def test_rankers_by_name_folder_and_hub_name(tmp_path: Path) -> None:
    _, rankers = read_systems()
    assert choose_ranker("tiny-fr-en-ranker", rankers) == rankers["tiny-fr-en-ranker"]
    assert choose_ranker("moi/juge", rankers, {"context_first": False, "max_length": 99}) == Ranker(
        "moi/juge", "moi/juge", "moi/juge", None, False, 99
    )
    assert choose_ranker(str(tmp_path), rankers).label == tmp_path.name
    with pytest.raises(ValueError, match=r"unknown ranker 'juge'.*or one of bloomz-560m-reranking"):
        choose_ranker("juge", rankers)
