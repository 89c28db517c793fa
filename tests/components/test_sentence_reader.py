"""The sentence that answers, its place and its page, in both languages."""

import numpy as np
import pytest
from haystack import Document, Pipeline

from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
from haystack_integrations.components.readers.bloomz import BloomzSentenceReader
from haystack_integrations.components.readers.bloomz.sentence_scores import sentence_scores, shared_words

MODEL = "tiny-fr-en-retriever"
FRENCH = "Marie Curie est née à Varsovie en 1867. Elle a reçu le prix Nobel en 1903. Son mari s'appelait Pierre."
ENGLISH = "Marie Curie was born in Warsaw in 1867. She received the Nobel Prize in 1903. Her husband was Pierre."


@pytest.fixture(scope="module")
def reader() -> BloomzSentenceReader:
    return BloomzSentenceReader(MODEL, progress_bar=False)


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("Où est née Marie Curie ?", 0),
        ("Where was Marie Curie born?", 0),
        ("Quand a-t-elle reçu le prix Nobel ?", 1),
        ("When did she receive the Nobel Prize?", 1),
        ("What was the name of her husband?", 2),
    ],
)
def test_the_sentence_that_answers_is_found_across_languages(
    reader: BloomzSentenceReader, question: str, place: int
) -> None:
    documents = [Document(content=FRENCH), Document(content=ENGLISH)]
    answers = reader.run(query=question, documents=documents)["answers"]
    expected = [text.split(". ")[place].rstrip(".") + "." for text in (FRENCH, ENGLISH)]
    assert [answer.data for answer in answers] == expected
    for answer, document in zip(answers, documents, strict=True):
        assert answer.document is document
        assert answer.query == question
        assert document.content is not None
        assert answer.document_offset is not None
        assert document.content[answer.document_offset.start : answer.document_offset.end] == answer.data
        assert 0 < answer.score <= 1


def test_the_page_is_counted_from_the_document_s_first(reader: BloomzSentenceReader) -> None:
    text = "La mairie ouvre à 9 heures.\fLa piscine ferme le lundi.\fThe library is closed in August."
    documents = [Document(content=text, meta={"page_number": 4}), Document(content=text)]
    for question, page in (("Quand ouvre la mairie ?", 4), ("Is the library open in August?", 6)):
        first, second = reader.run(query=question, documents=documents)["answers"]
        assert (first.meta, second.meta) == ({"answer_page_number": page}, {})


def test_a_document_s_sentence_does_not_depend_on_its_neighbours(reader: BloomzSentenceReader) -> None:
    documents = [Document(content=FRENCH), Document(content=ENGLISH), Document(content="Il pleut. It rains.")]
    together = reader.run(query="Where was she born?", documents=documents)["answers"]
    alone = [reader.run(query="Where was she born?", documents=[document])["answers"][0] for document in documents]
    assert [answer.data for answer in together] == [answer.data for answer in alone]
    np.testing.assert_allclose([answer.score for answer in together], [answer.score for answer in alone], atol=1e-5)


def test_what_has_no_text_has_no_answer_and_loads_nothing() -> None:
    reader = BloomzSentenceReader("no/where")
    documents = [Document(content=None), Document(content=" \n"), Document(content="")]
    assert reader.run(query="?", documents=documents) == {"answers": []}
    assert reader.run(query="?", documents=[]) == {"answers": []}


def test_only_the_first_documents_are_read(reader: BloomzSentenceReader) -> None:
    documents = [Document(content=FRENCH), Document(content=ENGLISH)]
    assert len(reader.run(query="Where?", documents=documents, top_k=1)["answers"]) == 1
    assert len(BloomzSentenceReader(MODEL, top_k=1, progress_bar=False).run("Where?", documents)["answers"]) == 1


def test_wrong_inputs_are_one_line(reader: BloomzSentenceReader) -> None:
    with pytest.raises(TypeError, match="expects a string as query, but got int"):
        reader.run(query=3, documents=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="documents must be a list of Documents, but got str"):
        reader.run(query="Où ?", documents="La Loire")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"top_k must be > 0, but got 0"):
        reader.run(query="Où ?", documents=[], top_k=0)
    with pytest.raises(ValueError, match=r"top_k must be > 0, but got -1"):
        BloomzSentenceReader(MODEL, top_k=-1)


def test_words_count_by_stem_and_rarity() -> None:
    sentences = ["Les contrats sont signés.", "Le contrat de location est résilié.", "Un contrat."]
    resilie, contrat = shared_words("Comment résilier le contrat ?", sentences)[1:]
    assert 0 < contrat < 0.3 < resilie <= 1
    assert shared_words("the of and", ["the of and"]).tolist() == [0.0]
    cosines = np.array([0.9, -0.5, 0.2], dtype=np.float32)
    scores = sentence_scores("the of", ["a", "b", "c"], cosines)
    np.testing.assert_allclose(scores, [0.45, 0.0, 0.1], atol=1e-6)


def test_every_parameter_comes_back_from_yaml() -> None:
    changed = {
        "model": MODEL,
        "top_k": 3,
        "local_files_only": True,
        "model_kwargs": {"dtype": "float32"},
        "tokenizer_kwargs": {"use_fast": True},
        "config_kwargs": {"a": 1},
        "revision": "main",
        "max_length": 77,
        "batch_tokens": 99,
        "precision": "int8",
        "progress_bar": False,
    }
    pipeline = Pipeline()
    pipeline.add_component("reader", BloomzSentenceReader(**changed))  # type: ignore[arg-type]
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded == pipeline
    assert {name: getattr(loaded.get_component("reader"), name) for name in changed} == changed


def test_it_shares_the_weights_of_the_embedder(reader: BloomzSentenceReader) -> None:
    embedder = BloomzTextEmbedder(MODEL, progress_bar=False)
    assert embedder._warm_engine().checkpoint.model is reader._warm_engine().checkpoint.model
