"""The two embedders as users of Haystack meet them."""

import asyncio
import gc
import logging
import unicodedata
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document, Pipeline
from haystack.utils import ComponentDevice, Device, DeviceMap, Secret
from transformers.utils import logging as transformers_logging

from haystack_integrations.common.bloomz import checkpoint
from haystack_integrations.common.bloomz.bloom import BloomBody
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

MakeBloom = Callable[..., Path]

CPU = ComponentDevice.from_str("cpu")
TEXTS = ["La tour Eiffel est à Paris.", "Big Ben is in London.", "", "é", "The Alhambra " * 30]

EVERY_TEXT_PARAMETER: dict[str, Any] = {
    "model": "some/model",
    "device": ComponentDevice.from_str("cuda:1"),
    "token": Secret.from_env_var("SOME_TOKEN"),
    "prefix": "question : ",
    "suffix": " ?",
    "normalize_embeddings": False,
    "local_files_only": True,
    "model_kwargs": {"dtype": "bfloat16", "nested": {"a": 1}},
    "tokenizer_kwargs": {"eos_token": "</s>"},
    "config_kwargs": {"seq_length": 77},
    "revision": "v2",
    "max_length": 99,
    "precision": "int8",
    "progress_bar": False,
}
EVERY_DOCUMENT_PARAMETER = {
    **EVERY_TEXT_PARAMETER,
    "batch_tokens": 512,
    "meta_fields_to_embed": ["titre", "title"],
    "embedding_separator": " | ",
}


def documents() -> list[Document]:
    return [Document(content=text, meta={"title": f"n° {n}"}) for n, text in enumerate(TEXTS)]


def live_models() -> int:
    gc.collect()
    return sum(type(thing) is BloomBody for thing in gc.get_objects())


@pytest.fixture
def text_embedder(tiny_bloom: Path) -> BloomzTextEmbedder:
    return BloomzTextEmbedder(str(tiny_bloom), device=CPU)


@pytest.fixture
def document_embedder(tiny_bloom: Path) -> BloomzDocumentEmbedder:
    return BloomzDocumentEmbedder(str(tiny_bloom), device=CPU, progress_bar=False)


def test_both_give_the_vectors_of_the_engine(
    tiny_bloom: Path, text_embedder: BloomzTextEmbedder, document_embedder: BloomzDocumentEmbedder
) -> None:
    expected = Encoder(open_checkpoint(str(tiny_bloom), "embed", device="cpu")).encode(TEXTS)
    embedded = document_embedder.run(documents())["documents"]
    for text, document, vector in zip(TEXTS, embedded, expected, strict=True):
        assert document.content == text
        np.testing.assert_allclose(document.embedding, vector, atol=1e-6)
        np.testing.assert_allclose(text_embedder.run(text)["embedding"], vector, atol=1e-6)
    assert {type(number) for number in embedded[0].embedding} == {float}
    assert {type(number) for number in text_embedder.run("é")["embedding"]} == {float}
    assert text_embedder.dimension == document_embedder.dimension == expected.shape[1] == 24


def test_bulk_vectors_are_one_array(document_embedder: BloomzDocumentEmbedder) -> None:
    vectors = document_embedder.embed(documents())
    assert (vectors.shape, vectors.dtype) == ((5, 24), np.float32)
    embedded = document_embedder.run(documents())["documents"]
    np.testing.assert_allclose(vectors, [document.embedding for document in embedded], atol=1e-6)
    assert document_embedder.embed([]).shape == (0, 24)


def test_documents_are_not_changed_and_keep_everything(document_embedder: BloomzDocumentEmbedder) -> None:
    before, untouched = documents(), documents()
    doubled = [*before, before[0]]
    after = document_embedder.run(doubled)["documents"]
    assert before == untouched
    assert [document.id for document in after] == [document.id for document in doubled]
    assert all(new.meta == old.meta and new is not old for new, old in zip(after, doubled, strict=True))


@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
def test_results_come_in_input_order_whatever_the_batches(tiny_bloom: Path, batch_tokens: int) -> None:
    one_by_one = BloomzDocumentEmbedder(str(tiny_bloom), device=CPU, progress_bar=False, batch_tokens=batch_tokens)
    texts = [f"texte {n} " * (n * 7 % 23 + 1) for n in range(40)]
    together = one_by_one.embed([Document(content=text) for text in texts])
    alone = [BloomzTextEmbedder(str(tiny_bloom), device=CPU).run(text)["embedding"] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_metadata_stand_before_the_content(tiny_bloom: Path, text_embedder: BloomzTextEmbedder) -> None:
    embedder = BloomzDocumentEmbedder(
        str(tiny_bloom),
        device=CPU,
        progress_bar=False,
        meta_fields_to_embed=["titre", "page", "signed", "note", "absent"],
        embedding_separator=" | ",
        prefix="< ",
        suffix=" >",
    )
    meta = {"note": None, "signed": False, "page": 0, "titre": "Été"}
    vectors = embedder.embed([Document(content="Summer", meta=meta), Document(content=None, meta=meta), Document()])
    for vector, text in zip(vectors, ["< Été | 0 | False | Summer >", "< Été | 0 | False |  >", "<  >"], strict=True):
        np.testing.assert_allclose(vector, text_embedder.run(text)["embedding"], atol=1e-5)


def test_prefix_suffix_and_raw_vectors(tiny_bloom: Path, text_embedder: BloomzTextEmbedder) -> None:
    around = BloomzTextEmbedder(str(tiny_bloom), device=CPU, prefix="a ", suffix=" b", normalize_embeddings=False)
    raw, unit = np.array(around.run("été")["embedding"]), np.array(text_embedder.run("a été b")["embedding"])
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


def test_none_and_empty_and_white_space(document_embedder: BloomzDocumentEmbedder) -> None:
    vectors = document_embedder.embed(
        [Document(), Document(content=""), Document(content="</s>"), Document(content=" ")]
    )
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_no_document_needs_no_model() -> None:
    embedder = BloomzDocumentEmbedder("nobody/nothing")
    assert embedder.run([]) == {"documents": []}
    assert embedder._engine is None


def test_wrong_input_is_named() -> None:
    embedder, text_embedder = BloomzDocumentEmbedder("nobody/nothing"), BloomzTextEmbedder("nobody/nothing")
    wrong: Any
    for wrong in ("a text", ["texts"], [Document(), "text"], Document(), None):
        with pytest.raises(TypeError, match="To embed a question, use the BloomzTextEmbedder"):
            embedder.run(wrong)
        with pytest.raises(TypeError, match="documents must be a list of Documents, but got "):
            embedder.embed(wrong)
    for wrong in (["text"], [Document()], None, 3):
        with pytest.raises(TypeError, match=r"BloomzTextEmbedder expects a string.*use the BloomzDocumentEmbedder"):
            text_embedder.run(wrong)


@pytest.mark.parametrize("embedder", [BloomzTextEmbedder, BloomzDocumentEmbedder])
def test_wrong_parameters_are_named(embedder: type[Any]) -> None:
    with pytest.raises(ValueError, match="max_length must be > 0, but got -3"):
        embedder(max_length=-3)
    with pytest.raises(TypeError, match=r"got 'cpu': use ComponentDevice.from_str"):
        embedder(device="cpu")
    with pytest.raises(TypeError, match="token must be a Secret"):
        embedder(token="hf_abc")
    devices = ComponentDevice.from_multiple(DeviceMap({"a": Device.cpu(), "b": Device.gpu(0)}))
    with pytest.raises(ValueError, match="single device"):
        embedder(device=devices)
    with pytest.raises(TypeError, match="trust_remote_code"):
        embedder(trust_remote_code=True)
    with pytest.raises(ValueError, match="batch_tokens must be > 0, but got 0"):
        BloomzDocumentEmbedder(batch_tokens=0)


@pytest.mark.parametrize(
    ("embedder", "parameters"),
    [(BloomzTextEmbedder, EVERY_TEXT_PARAMETER), (BloomzDocumentEmbedder, EVERY_DOCUMENT_PARAMETER)],
)
def test_every_parameter_survives_a_round_trip(embedder: type[Any], parameters: dict[str, Any]) -> None:
    default, built = embedder(), embedder(**parameters)
    data = built.to_dict()
    assert data["type"] == f"{embedder.__module__}.{embedder.__name__}"
    assert data["init_parameters"].keys() == parameters.keys() == default.to_dict()["init_parameters"].keys()
    for name, value in parameters.items():
        assert getattr(default, name) != value, f"{name} is tested with its default"
    again = embedder.from_dict(data)
    assert again.to_dict() == data
    assert {name: getattr(again, name) for name in parameters} == parameters


def test_defaults_are_portable() -> None:
    parameters = BloomzDocumentEmbedder().to_dict()["init_parameters"]
    assert parameters["device"] is None
    assert parameters["model"] == "cmarkea/bloomz-560m-retriever-v2"
    assert parameters["token"] == {"type": "env_var", "env_vars": ["HF_API_TOKEN", "HF_TOKEN"], "strict": False}
    kwargs = {"dtype": torch.bfloat16, "nested": {"dtype": torch.float16}}
    built = BloomzTextEmbedder(model_kwargs=kwargs)
    written = built.to_dict()["init_parameters"]["model_kwargs"]
    assert written == {"dtype": "torch.bfloat16", "nested": {"dtype": "torch.float16"}}
    assert kwargs == {"dtype": torch.bfloat16, "nested": {"dtype": torch.float16}}


def test_a_dtype_written_to_yaml_loads(tiny_bloom: Path) -> None:
    kwargs = {"dtype": torch.bfloat16}
    embedder = BloomzTextEmbedder.from_dict(BloomzTextEmbedder(str(tiny_bloom), model_kwargs=kwargs).to_dict())
    embedder.warm_up()
    assert next(embedder._warm_engine().checkpoint.model.parameters()).dtype == torch.bfloat16


def pipeline(retriever: Path, ranker: Path) -> Pipeline:
    built = Pipeline()
    built.add_component("question", BloomzTextEmbedder(str(retriever), device=CPU))
    built.add_component("documents", BloomzDocumentEmbedder(str(retriever), device=CPU, progress_bar=False))
    built.add_component("ranker", BloomzRanker(str(ranker), device=CPU))
    built.connect("documents.documents", "ranker.documents")
    return built


def test_a_pipeline_loads_from_plain_yaml_and_two_pipelines_share_weights(make_bloom: MakeBloom) -> None:
    before = live_models()
    first = pipeline(make_bloom(), make_bloom(ranker=True))
    second = Pipeline.loads(first.dumps())
    assert second.dumps() == first.dumps()
    inputs = {
        "question": {"text": "Où est la tour Eiffel ?"},
        "documents": {"documents": documents()},
        "ranker": {"query": "Where is the Eiffel tower?"},
    }
    answers = [each.run(inputs, include_outputs_from={"question"}) for each in (first, second)]
    assert answers[0] == answers[1]
    assert live_models() == before + 2, "one retriever and one body of a ranker for two pipelines"
    first.close()
    assert live_models() == before + 2
    second.close()
    assert live_models() == before


def test_two_embedders_share_one_copy_until_the_last_closes(make_bloom: MakeBloom) -> None:
    folder, before = str(make_bloom()), live_models()
    text, document = BloomzTextEmbedder(folder, device=CPU), BloomzDocumentEmbedder(folder, device=CPU, max_length=9)
    text.warm_up()
    text.warm_up()
    document.warm_up()
    weights = weakref.ref(text._warm_engine().checkpoint.model)
    assert document._warm_engine().checkpoint.model is weights()
    assert live_models() == before + 1
    expected = text.run("été")
    text.close()
    text.close()
    assert weights() is not None
    document.close()
    assert weights() is None
    assert live_models() == before
    assert text.run("été") == expected
    text.close()
    assert live_models() == before


def test_sixteen_threads_give_the_vectors_of_one(
    text_embedder: BloomzTextEmbedder, document_embedder: BloomzDocumentEmbedder
) -> None:
    texts = [f"Où est la ville numéro {n} ? Where is it? " * (n % 5 + 1) for n in range(64)]
    expected = [text_embedder.run(text)["embedding"] for text in texts]
    with ThreadPoolExecutor(16) as pool:
        threaded = list(pool.map(lambda text: text_embedder.run(text)["embedding"], texts))
        bulk = list(pool.map(lambda _: document_embedder.embed([Document(content=t) for t in texts]), range(16)))
    np.testing.assert_allclose(threaded, expected, atol=1e-6)
    for vectors in bulk:
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_sixteen_threads_warm_up_once(make_bloom: MakeBloom, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = BloomzTextEmbedder(str(make_bloom()), device=CPU)
    loads: list[object] = []
    original = checkpoint._load

    def counted(*given: Any) -> Checkpoint:  # noqa: ANN401
        loads.append(given[0])
        return original(*given)

    monkeypatch.setattr(checkpoint, "_load", counted)
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(lambda _: embedder.run("été")["embedding"], range(16)))
    assert len(loads) == 1
    np.testing.assert_allclose(vectors, [vectors[0]] * 16, atol=1e-5)  # computed together: the last bits may differ


def test_closing_while_others_run_is_safe(text_embedder: BloomzTextEmbedder) -> None:
    expected = text_embedder.run("été")["embedding"]

    def run_or_close(n: int) -> bool:
        if n % 8 == 0:
            text_embedder.close()
            return True
        return np.allclose(text_embedder.run("été")["embedding"], expected, atol=1e-5)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(run_or_close, range(96)))


async def test_warm_up_async_leaves_the_event_loop_free(make_bloom: MakeBloom) -> None:
    embedder = BloomzTextEmbedder(str(make_bloom()), device=CPU)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    await embedder.warm_up_async()
    ticking.cancel()
    assert embedder._engine is not None
    assert ticks > 2


async def test_a_pipeline_runs_async(tiny_bloom: Path, tiny_ranker: Path) -> None:
    built = pipeline(tiny_bloom, tiny_ranker)
    inputs = {"documents": {"documents": documents()}, "ranker": {"query": "Qui ?"}, "question": {"text": "Who?"}}
    assert await built.run_async(inputs) == built.run(inputs)


def test_progress_bar_for_documents_and_none_for_a_question(
    tiny_bloom: Path, text_embedder: BloomzTextEmbedder, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = BloomzDocumentEmbedder(str(tiny_bloom), device=CPU)
    quiet = BloomzDocumentEmbedder(str(tiny_bloom), device=CPU, progress_bar=False)
    for embedder in (loud, quiet, text_embedder):
        embedder.warm_up()
    capsys.readouterr()
    quiet.run(documents())
    text_embedder.run("été")
    assert capsys.readouterr() == ("", "")
    loud.run(documents())
    out, err = capsys.readouterr()
    assert out == ""
    assert "Embedding documents: 100%" in err
    assert "5/5" in err


@pytest.mark.skipif(
    not hasattr(transformers_logging, "set_tqdm_hook"), reason="the first releases of transformers 5 always show it"
)
@pytest.mark.parametrize("component", [BloomzTextEmbedder, BloomzDocumentEmbedder, BloomzRanker])
def test_no_bar_while_a_model_loads_unless_asked_for(
    make_bloom: MakeBloom, capsys: pytest.CaptureFixture[str], component: type[Any]
) -> None:
    folder = make_bloom(ranker=component is BloomzRanker)
    capsys.readouterr()
    shown = {}
    for progress_bar in (False, True, False):
        # arguments for the tokenizer: plain files are mapped, which takes no time to show
        built = component(str(folder), device=CPU, progress_bar=progress_bar, tokenizer_kwargs={"padding_side": "left"})
        built.warm_up()
        built.close()
        shown[progress_bar] = capsys.readouterr()
    assert shown[False] == ("", "")
    assert "Loading weights" in shown[True].err


@pytest.mark.parametrize("component", [BloomzTextEmbedder, BloomzDocumentEmbedder, BloomzRanker])
def test_a_path_is_a_model_and_dumps_as_text(make_bloom: MakeBloom, component: type[Any]) -> None:
    folder = make_bloom(ranker=component is BloomzRanker)
    built = Pipeline()
    built.add_component("it", component(folder, model_kwargs={"dtype": "float32"}, device=CPU))
    again = Pipeline.loads(built.dumps())
    assert (again, again.dumps()) == (built, built.dumps())
    assert again.get_component("it").model == str(folder)  # type: ignore[attr-defined]
    built.warm_up()
    with pytest.raises(TypeError, match="model must be a name or a folder, but got None"):
        component(None)


def test_tuples_and_paths_in_parameters_dump_as_lists_and_text(tmp_path: Path) -> None:
    fields = ("titre", "title")
    ranker = BloomzRanker(meta_fields_to_embed=fields, prefix_cache="1MB", prefix_cache_folder=tmp_path)  # type: ignore[arg-type]
    built = Pipeline()
    built.add_component("ranker", ranker)
    again = Pipeline.loads(built.dumps()).get_component("ranker")
    assert again.meta_fields_to_embed == list(fields)  # type: ignore[attr-defined]
    assert again.prefix_cache_folder == str(tmp_path)  # type: ignore[attr-defined]


def test_the_documents_that_lost_their_end_are_handed_over(tiny_bloom: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedder = BloomzDocumentEmbedder(str(tiny_bloom), device=CPU, progress_bar=False, max_length=5)
    told: list[list[Document]] = []
    with caplog.at_level(logging.WARNING):
        vectors = embedder.embed(documents(), on_truncated=told.append)
        assert caplog.records == [], "who asks to be told needs no warning"
        assert told == [[document for document in documents() if document.content not in ("", "é")]]
        np.testing.assert_array_equal(embedder.embed(documents()), vectors)
    assert [record.getMessage() for record in caplog.records] == [
        "3 of 5 texts were longer than 5 tokens and lost their end"
    ]
    embedder.embed([Document(content="é")], on_truncated=told.append)
    assert len(told) == 1


@pytest.mark.parametrize("text", ["Où est l'élève ?", "Where is the office, à Noël?"])
def test_one_text_has_one_vector_however_it_is_spelt(text: str, tiny_bloom: Path) -> None:
    spelt = unicodedata.normalize("NFD", text).replace("ffi", "\ufb03").replace("est", "e\u00adst") + "\u200b"
    question, passage = BloomzTextEmbedder(str(tiny_bloom)), BloomzDocumentEmbedder(str(tiny_bloom), progress_bar=False)
    assert question.run(spelt) == question.run(text)
    vectors = passage.embed([Document(content=spelt), Document(content=text)])
    assert (vectors[0] == vectors[1]).all()
