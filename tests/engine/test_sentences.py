"""Where sentences end, in French and in English: abbreviations, numbers, lists, quotes."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haystack_integrations.common.bloomz.sentences import sentences

CASES = [
    "M. Dupont habite à Lyon.|Mme. Durand aussi.",
    "Mr. Smith lives in Leeds.|Mrs. Jones does too.",
    "Le Dr. J.-P. Martin l'a dit.|Il avait raison.",
    "Dr. J. K. Rowling said so.|She was right.",
    "Selon l'art. 3 du code, c'est interdit.|Voir aussi l'al. 2.",
    "Under art. 3 it is forbidden.|See also sec. 2 and fig. 4.",
    "Cela coûte 3.5 € ou 1.250,00 €.|C'est cher.",
    "It costs $3.5 million, or 1,250.00 a day.|That is a lot.",
    "Il hésite... puis il part.|Il revient.",
    "He hesitates... then leaves.|He returns.",
    "Il hésite…|Puis il part.",
    "« Tu viens ? » dit-il.|« Non ! »|Elle partit.",
    '"Are you coming?" he said.|"No!"|She left.',
    "Il a dit : « Je pars. »|Elle est restée.",
    'He said: "I am leaving."|She stayed.',
    "Des pommes, des poires, etc.|Tout est bon.",
    "Apples, pears, etc. are good.|All of it.",
    "Apple Inc. was founded in 1976.|It makes phones.",
    "The U.S. Army came.|It left.",
    "Né av. J.-C., il mourut à Rome.|On l'oublia.",
    "Il pèse env. 80 kg.|Il mesure 1.80 m.",
    "At 5 p.m. they left.|Nobody saw them.",
    "Voir p. 12 et pp. 14-16.|La suite est à la page 20.",
    "Le n° 5 et le n. 6.|Pas le reste.",
    "Visitez www.exemple.fr et écrivez à a.b@c.fr.|Merci.",
    "Use Python 3.11.2 or node.js.|It works.",
    "Titre sans point\n|\nPremière phrase.|Deuxième phrase.",
    "À apporter :\n|- une carte d'identité\n|- un justificatif",
    "What to bring:\n|1. An identity card\n|2. A proof of address",
    "a) la carte\n|b) le formulaire",
    "Phrase coupée\npar une fin de ligne.|Une autre.",
    "A sentence cut\nby a line end.|Another one.",
    "Quoi ?!|Non...|Si !",
    "World War I. It ended in 1918.".replace(" It", "|It"),
    "It ended in 1945.|1946 was better.",
    "(Il pleut.)|Il neige.",
]


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_ends_where_a_reader_ends_it(case: str) -> None:
    text = re.sub(r"\|", " ", case).replace("\n ", "\n")
    expected = [part.strip() for part in case.split("|")]
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_without_the_rules_it_would_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr("haystack_integrations.common.bloomz.sentences._TITLE", re.compile("(?!)"))
    assert len(sentences("Mr. Smith lives in Leeds.")) == 2


@pytest.mark.parametrize("text", ["", " \n\t ", "\u00a0"])
def test_nothing_has_no_sentence(text: str) -> None:
    assert sentences(text) == []


def test_a_table_without_marks_is_cut_at_spaces() -> None:
    text = "mot " * 1000
    spans = sentences(text, longest=100)
    assert max(end - start for start, end in spans) <= 100
    pieces = [text[start:end] for start, end in spans]
    assert (len(pieces), set(" ".join(pieces).split()), len(" ".join(pieces))) == (42, {"mot"}, 3999)
    assert len(sentences("x" * 1000, longest=100)) == 10


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("aB1 .!?…\n\"»«()-'\u00a0é\f"), max_size=200), st.integers(1, 50))
def test_nothing_is_lost_and_the_order_is_kept(text: str, longest: int) -> None:
    spans = sentences(text, longest=longest)
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(first.end <= second.start for first, second in pairwise(spans))
    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())


def test_a_long_text_takes_linear_time() -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        sentences(text)
        return time.process_time() - start

    text = "Il pleut... « ((( " * 20_000
    assert min(seconds(text * 4) for _ in range(3)) < 12 * max(min(seconds(text) for _ in range(3)), 0.005)
