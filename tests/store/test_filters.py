"""Every filter gives what `document_matches_filter`, Haystack's own reading of filters, gives."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.facts import token

FIELDS = (
    "langue", "lang code", "page", "année", "date", "tags", "author", "author.name",
    'size 9"', "50%", "%22", "a[0]", "x\\y", "new\nline", "中", "'", "a[]", "facts", "id",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, "fr", "en", "FR", "", "é", "un", 0, 1, 2, -7, 1.0, 2.5, True, False, [], ["fr"], ["fr", "en"], [1],
    [1.0, None], {}, {"name": "Zoé"}, {"name": "Zoe", "age": 3}, {"name": 1}, 2**62, "x" * 500, "x" * 499 + "y",
    "2024-02-29", "2024-02-29T00:00:00", "2024-02-29 00:00:00", "2024-02-29T00:00:00Z", "2024-02-29T01:00:00+01:00",
    "2023-12-31T23:59:59.999999", "2024-02-30", "2024-02-29x",
)  # fmt: skip
ORDERED: tuple[Any, ...] = (
    None, 0, 1, 2.5, -7, True, "2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29T01:00:00+01:00",
    datetime(2024, 2, 29), datetime(2024, 2, 29, tzinfo=UTC),
)  # fmt: skip


def _random_document(rng: random.Random, number: int) -> Document:
    meta: dict[str, Any] = {field: rng.choice(VALUES) for field in FIELDS if rng.random() < 0.6}
    content = rng.choice([None, "", "Le chat dort.", "The cat sleeps.", "2024-02-29", "long " * 100])
    return Document(id=f"passage {number}", content=content, meta=meta)


def _random_filter(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    if depth < 3 and rng.random() < 0.35:
        parts = [_random_filter(rng, depth + 1) for _ in range(rng.randrange(4))]
        return {"operator": rng.choice(["AND", "OR", "NOT"]), "conditions": parts}
    prefix = rng.choice(["meta.", "meta.", "meta.", ""])
    field = rng.choice([*(prefix + name for name in FIELDS if prefix or "." not in name), "content", "id", "no.such"])
    operator = rng.choice(["==", "!=", ">", ">=", "<", "<=", "in", "not in"])
    value: Any
    if operator in ("in", "not in"):
        value = rng.choices(VALUES, k=rng.randrange(5))
    else:
        value = rng.choice(VALUES if operator in ("==", "!=") else ORDERED)
    return {"field": field, "operator": operator, "value": value}


def _matches(filters: dict[str, Any], document: Document) -> bool:
    """Ask Haystack; a document it cannot order against the filter's value does not match (see filters.py)."""
    if "conditions" in filters:
        answers = [_matches(part, document) for part in filters["conditions"]]
        return {"AND": all(answers), "OR": any(answers), "NOT": not all(answers)}[filters["operator"]]
    try:
        return document_matches_filter(filters, document)
    except (FilterError, TypeError):
        assert filters["operator"] in (">", ">=", "<", "<=")
        return False


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    rng = random.Random(20)
    return [_random_document(rng, number) for number in range(150)]


@pytest.fixture(scope="module", params=[None, ["langue", "page", "date", 'size 9"', "année"]], ids=["plain", "indexed"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, documents: list[Document]
) -> Iterator[QdrantEdgeDocumentStore]:
    folder = tmp_path_factory.mktemp("filters") / "store"
    store = QdrantEdgeDocumentStore(str(folder), embedding_dim=2, indexed_meta_fields=request.param)
    store.write_documents(documents)
    yield store
    store.close()


def test_random_filters_give_haystack_s_answers(store: QdrantEdgeDocumentStore, documents: list[Document]) -> None:
    rng = random.Random(21)
    sizes = []
    for _ in range(200):
        filters = _random_filter(rng)
        expected = {document.id for document in documents if _matches(filters, document)}
        assert {document.id for document in store.filter_documents(filters)} == expected, filters
        assert store.count_documents_by_filter(filters) == len(expected)
        sizes.append(len(expected))
    assert sum(0 < size < len(documents) for size in sizes) > 100  # the filters do tell documents apart


def test_every_pair_of_values_is_equal_as_in_haystack(store: QdrantEdgeDocumentStore) -> None:
    pairs = [Document(id=f"value {number}", meta={"paire": value}) for number, value in enumerate(VALUES)]
    store.write_documents(pairs)
    try:
        for value in VALUES:
            filters = {
                "operator": "AND",
                "conditions": [
                    {"field": "meta.paire", "operator": "==", "value": value},
                    {"field": "id", "operator": "in", "value": [document.id for document in pairs]},
                ],
            }
            expected = {document.id for document in pairs if _matches(filters, document)}
            assert {document.id for document in store.filter_documents(filters)} == expected, value
            assert expected, value
    finally:
        store.delete_documents([document.id for document in pairs])


def test_presence_of_an_embedding(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), embedding_dim=2)
    store.write_documents([Document(id="avec", embedding=[1.0, 0.0]), Document(id="sans"), Document(id="without")])
    with_embedding = store.filter_documents({"field": "embedding", "operator": "!=", "value": None})
    assert [document.id for document in with_embedding] == ["avec"]
    assert store.count_documents_by_filter({"field": "embedding", "operator": "==", "value": None}) == 2


def test_only_full_iso_dates_are_dates(tmp_path: Path) -> None:
    # Haystack reads "1" as the first day of the current month, so its answer changes with the calendar.
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), embedding_dim=2)
    store.write_documents([Document(id=value, meta={"date": value}) for value in ("1", "3 mars 2024", "2024-03-03")])
    found = store.filter_documents({"field": "meta.date", "operator": ">", "value": "1990-01-01"})
    assert [document.id for document in found] == ["2024-03-03"]


def test_a_key_with_a_dot_is_kept_and_not_filterable(tmp_path: Path) -> None:
    # As in Haystack, where "meta.a.b" means b inside a.
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), embedding_dim=2)
    document = Document(id="point", meta={"a.b": "fr", "c": {"d.e": 1}})
    store.write_documents([document])
    assert store.filter_documents()[0].meta == document.meta
    assert store.count_documents_by_filter({"field": "meta.a.b", "operator": "==", "value": "fr"}) == 0
    assert not document_matches_filter({"field": "meta.a.b", "operator": "==", "value": "fr"}, document)


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"field": "meta.page", "operator": "===", "value": 1}, "==="),
        ({"field": "meta.page", "operator": ["=="], "value": 1}, "=="),
        ({"operator": "XOR", "conditions": []}, "XOR"),
        ({"operator": "==", "value": 1}, "=="),
        ({"conditions": []}, "operator"),
        ({"operator": "AND"}, "conditions"),
        ({"operator": "AND", "conditions": {"field": "meta.page"}}, "conditions"),
        ({"operator": "AND", "conditions": ["meta.page"]}, "meta.page"),
        ({"field": "meta.page", "operator": "=="}, "value"),
        ({"field": "meta.page", "value": 1}, "operator"),
        ({"field": 3, "operator": "==", "value": 1}, "field"),
        ({"field": "meta.page", "operator": "in", "value": "fr"}, "meta.page"),
        ({"field": "meta.page", "operator": "not in", "value": (1, 2)}, "tuple"),
        ({"field": "meta.page", "operator": "==", "value": {1, 2}}, "set"),
        ({"field": "meta.page", "operator": "in", "value": [1, object()]}, "object"),
        ({"field": "meta.page", "operator": ">", "value": "beaucoup"}, "beaucoup"),
        ({"field": "meta.page", "operator": "<=", "value": [1]}, "list"),
        ({"field": "meta.page", "operator": "<", "value": {}}, "dict"),
        ({"field": "embedding", "operator": "==", "value": [1.0, 0.0]}, "embedding"),
        ({"field": "meta", "operator": "==", "value": {}}, "meta.key"),
        ({"langue": "fr"}, "langue"),
        (["langue"], "list"),
        ("langue", "langue"),
    ],
)
def test_a_malformed_filter_is_named(store: QdrantEdgeDocumentStore, filters: dict[str, Any], named: str) -> None:
    with pytest.raises(FilterError, match=named.replace("[", r"\[")):
        store.filter_documents(filters)


def test_a_bottomless_filter_is_refused(store: QdrantEdgeDocumentStore) -> None:
    filters: dict[str, Any] = {"field": "meta.page", "operator": "==", "value": 1}
    for _ in range(100):
        filters = {"operator": "AND", "conditions": [filters]}
    assert store.count_documents_by_filter(filters) > 0
    with pytest.raises(FilterError, match="100 levels"):
        store.filter_documents({"operator": "NOT", "conditions": [filters]})


def test_tokens_are_equal_exactly_when_python_values_are() -> None:
    for left in VALUES[1:]:
        for right in VALUES[1:]:
            assert (token(left) == token(right)) == (left == right), (left, right)


def test_contains_asks_for_an_element_of_a_list(tmp_path: Path) -> None:
    metas: list[dict[str, Any]] = [
        {"tags": ["rh", "paie"]},
        {"tags": ["rh"], "years": [2024, 2025.0, True]},
        {"tags": []},
        {"tags": "rh"},
        {},
        {"tags": [None, ["rh"], {"a": "rh"}], "who": {"tags": ["rh"]}},
    ]
    store = QdrantEdgeDocumentStore(tmp_path / "store", 2, indexed_meta_fields=["tags"])
    store.write_documents([Document(id=str(place), meta=meta) for place, meta in enumerate(metas)])

    def found(field: str, value: object) -> list[str]:
        matching = store.filter_documents({"field": field, "operator": "contains", "value": value})
        return sorted(document.id for document in matching)

    assert found("meta.tags", "rh") == found("tags", "rh") == ["0", "1"]
    assert (found("meta.tags", "RH"), found("meta.tags", ["rh"]), found("meta.who.tags", "rh")) == ([], ["5"], ["5"])
    assert (found("meta.years", 2025), found("meta.years", 1), found("meta.years", "2024")) == (["1"], ["1"], [])
    tagged = {"field": "meta.tags", "operator": "contains", "value": "rh"}
    assert len(store.filter_documents({"operator": "NOT", "conditions": [tagged]})) == 4
    store.update_by_filter({"field": "id", "operator": "==", "value": "2"}, {"tags": ("rh",)})
    assert found("meta.tags", "rh") == ["0", "1", "2"]
    for field, value in (("content", "rh"), ("meta.tags", None), ("meta.tags", {1})):
        with pytest.raises(FilterError, match="contains"):
            found(field, value)
    store.close()
