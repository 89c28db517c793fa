"""Haystack filter -> Qdrant filter over the facts of each document (facts.py).

The answers are those of `haystack.utils.filters.document_matches_filter`, in two points more strictly. Dates are read
only when they are full ISO 8601 dates ("2025-02-03..."). And the filter alone decides whether it is malformed: where
Haystack raises because one *document* holds a value that cannot be ordered against the filter's, that document here
does not match. One operator is added: "contains" finds the documents whose list, in a metadata field, holds a value.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from haystack.errors import FilterError
from qdrant_edge import (
    FieldCondition,
    Filter,
    HasIdCondition,
    HasVectorCondition,
    IsEmptyCondition,
    MatchAny,
    MatchValue,
    RangeFloat,
)

from haystack_integrations.document_stores.qdrant_edge.facts import (
    LONGEST_NAME,
    PRESENCE_FIELDS,
    TEXT_FIELDS,
    Moment,
    facts_path,
    read_moment,
    read_number,
    token,
)

FILTER_DEPTH = 100  # levels of AND/OR/NOT; Edge walks a filter recursively, and a stack overflow would end the process
DOCUMENT_FIELDS = ("id", "content", "score", *PRESENCE_FIELDS)


def edge_filter(filters: dict[str, Any] | None) -> Filter | None:
    """Translate a Haystack filter.

    :param filters: a comparison or a logical condition, as `DocumentStore.filter_documents` describes them.
    :returns: the Qdrant filter; None when there is nothing to filter by (None or {}).
    :raises FilterError: if the filter is malformed; the message names the operator, field or part at fault.
    """
    if filters is None or filters == {}:
        return None
    try:
        return _condition(filters, depth=0)
    except RecursionError:
        raise FilterError("a value of the filter is nested too deep: no document holds such a value") from None
    except (UnicodeEncodeError, TypeError) as error:  # Edge takes no text that is not Unicode, and says so at length
        raise FilterError("the filter holds a lone surrogate, which is no character: take it out") from error


def _condition(condition: object, depth: int) -> Filter:
    if not isinstance(condition, dict):
        raise FilterError(
            f"a filter must be a dictionary, but got {condition!r:.200} of type {type(condition).__name__}"
        )
    if depth > FILTER_DEPTH:
        raise FilterError(f"the filter has more than {FILTER_DEPTH} levels of nested conditions: flatten it")
    if "operator" not in condition:
        raise FilterError(f"'operator' key missing in {condition!r:.200}")
    return _comparison(condition) if "field" in condition else _logic(condition, depth)


def _logic(condition: dict[str, Any], depth: int) -> Filter:
    operator = condition["operator"]
    if operator not in ("AND", "OR", "NOT"):
        raise FilterError(
            f"unknown logical operator {operator!r}: it must be AND, OR or NOT (a comparison needs a 'field' key)"
        )
    if not isinstance(condition.get("conditions"), list):
        raise FilterError(f"'conditions' key missing or not a list in {condition!r:.200}")
    parts: list[Any] = [_condition(part, depth + 1) for part in condition["conditions"]]
    if operator == "AND":
        return Filter(must=parts)
    if operator == "OR":
        return _any_of(parts)
    # Haystack's NOT denies the conjunction: at least one part does not hold.
    return _negation(Filter(must=parts))


def _comparison(condition: dict[str, Any]) -> Filter:
    field, operator = condition["field"], condition["operator"]
    if not isinstance(field, str):
        raise FilterError(f"'field' must be a string, but got {field!r:.200}")
    if len(field) > LONGEST_NAME:
        raise FilterError(f"'field' must be at most {LONGEST_NAME} characters, but got {field!r:.200}")
    if "value" not in condition:
        raise FilterError(f"'value' key missing in {condition!r:.200}")
    if not isinstance(operator, str) or operator not in COMPARISONS:
        raise FilterError(f"unknown comparison operator {operator!r}: it must be one of {', '.join(COMPARISONS)}")
    value = condition["value"]
    if field == "meta" or (field in PRESENCE_FIELDS and not (operator in ("==", "!=") and value is None)):
        raise FilterError(
            f"the field {field!r} can only be compared with None (== or !=); name one metadata key as 'meta.key'"
        )
    if "." not in field and field not in DOCUMENT_FIELDS:
        field = f"meta.{field}"  # Haystack reads a bare name as a metadata key
    return COMPARISONS[operator](field, value)


def _any_of(parts: list[Any]) -> Filter:
    # An empty `should` matches every point in Qdrant, and no document in Haystack.
    return Filter(should=parts) if parts else Filter(must=[HasIdCondition(set())])


def _negation(part: Filter | HasVectorCondition) -> Filter:
    return Filter(must_not=[part])


def _among(field: str, values: list[Any], operator: str) -> Filter:
    path = field if field in TEXT_FIELDS else facts_path("equal", field)
    parts: list[Any] = []
    tokens: list[str] = []
    for value in values:
        if value is None:
            parts.append(_negation(HasVectorCondition(field)) if field == "embedding" else IsEmptyCondition(path))
            continue
        if (moment := read_moment(value)) is not None:
            parts.append(_moment_range(field, moment, ("gte", "lte")))
        if not isinstance(value, datetime):
            checked = _token(value, field, operator)
            if field not in TEXT_FIELDS:
                tokens.append(checked)
            elif isinstance(value, str):  # no number, list or dictionary equals a text
                tokens.append(value)
    if tokens:
        # MatchAny of a single token takes a tenth longer.
        parts.append(FieldCondition(path, match=MatchValue(tokens[0]) if len(tokens) == 1 else MatchAny(tokens)))
    return _any_of(parts)


def _token(value: object, field: str, operator: str) -> str:
    try:
        return token(value)
    except TypeError as error:
        raise FilterError(
            f"{field} {operator} {value!r:.200}: {error}; compare with text, numbers, booleans, dates or None"
        ) from error


def _equal(field: str, value: object) -> Filter:
    return _among(field, [value], "==")


def _in(field: str, values: object) -> Filter:
    if not isinstance(values, list):
        raise FilterError(f"{field} in {values!r:.200}: 'in' and 'not in' need a list, but got {type(values).__name__}")
    return _among(field, values, "in")


def _contains(field: str, value: object) -> Filter:
    if field in DOCUMENT_FIELDS or value is None:
        raise FilterError(
            f"{field} contains {value!r:.200}: it asks for one element, not None, of a list in the metadata"
        )
    wanted = MatchValue(_token(value, field, "contains"))
    return Filter(must=[FieldCondition(facts_path("element", field), match=wanted)])


def _ordering(operator: str, bound: str) -> Callable[[str, Any], Filter]:
    def compare(field: str, value: object) -> Filter:
        if value is None:
            return _any_of([])  # nothing is above or below None
        if (number := read_number(value)) is not None:
            return Filter(must=[_range("number", field, {bound: number})])
        if (moment := read_moment(value)) is not None:
            return _moment_range(field, moment, (bound,))
        raise FilterError(
            f"{field} {operator} {value!r:.200}: a value of type {type(value).__name__} has no order; "
            "give a number or a full ISO 8601 date such as '2025-02-03' or '2025-02-03T08:00:00+01:00'"
        )

    return compare


def _moment_range(field: str, moment: Moment, bounds: tuple[str, ...]) -> Filter:
    """Compare as instants when both dates have a time zone, else as read on the wall clock (see Moment)."""
    on_the_wall = _range("wall", field, dict.fromkeys(bounds, moment.wall))
    if moment.instant is None:
        return Filter(must=[on_the_wall])
    as_instants = _range("instant", field, dict.fromkeys(bounds, moment.instant))
    naive = Filter(must=[IsEmptyCondition(facts_path("instant", field)), on_the_wall])
    return Filter(should=[as_instants, naive])


def _range(kind: str, field: str, bounds: dict[str, float]) -> FieldCondition:
    return FieldCondition(facts_path(kind, field), range=RangeFloat(**bounds))


COMPARISONS: dict[str, Callable[[str, Any], Filter]] = {
    "==": _equal,
    "!=": lambda field, value: _negation(_equal(field, value)),
    ">": _ordering(">", "gt"),
    ">=": _ordering(">=", "gte"),
    "<": _ordering("<", "lt"),
    "<=": _ordering("<=", "lte"),
    "in": _in,
    "not in": lambda field, values: _negation(_in(field, values)),
    "contains": _contains,  # not one of Haystack's: its `in` asks whether the whole value is in a list
}
