"""Text models, cross-encoders, BM25 and the cache: the numbers of the libraries they stand for, on tiny models."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from bloomz_haystack.benchmark.corpora.corpora import Corpus, read_corpus
from bloomz_haystack.benchmark.run.ranking import rank
from bloomz_haystack.benchmark.systems.bm25 import Bm25
from bloomz_haystack.benchmark.systems.cross_encoders import CrossEncoder, open_cross_encoder
from bloomz_haystack.benchmark.systems.encoders import VectorsNotFinite, open_text_model, pool
from bloomz_haystack.benchmark.systems.loading import token_limit
from bloomz_haystack.benchmark.systems.systems import Ranker, System, read_systems
from bloomz_haystack.benchmark.systems.vector_cache import cached_vectors, hash_texts
from bloomz_haystack.models import find as model_files
from bloomz_haystack.models.find import ModelNotAvailable, find_model

Array = np.ndarray[Any, np.dtype[Any]]
MakeBloom = Callable[..., Path]
MakeModel = Callable[..., Path]

BENCH = Path(os.environ.get("BLOOMZ_BENCH", Path(__file__).parents[3] / "shared/data/bench"))
TEXTS = [
    "Où se trouve la tour Eiffel ?",
    "Where is the Eiffel tower?",
    "La tour Eiffel se trouve à Paris, au bord de la Seine. " * 5,
    "The Eiffel tower stands in Paris, on the banks of the Seine.",
    "Big Ben sonne à Londres.",
    "é",
]
QUESTIONS, CONTEXTS = TEXTS[:2], TEXTS[2:]
PAIRS = [(context, question) for question in QUESTIONS for context in CONTEXTS]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # ids 0 to 4, as in CamemBERT's family
ARCHITECTURES = {
    "camembert": ("CamembertConfig", "CamembertModel", "CamembertForSequenceClassification"),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", "XLMRobertaForSequenceClassification"),
    "mpnet": ("MPNetConfig", "MPNetModel", "MPNetForSequenceClassification"),
    "bert": ("BertConfig", "BertModel", "BertForSequenceClassification"),
}


def train_tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """A BPE of 160 pieces with <s> ... </s> around each text, as CamemBERT's family has it; no text over 128 tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=160, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    second = 1 if architecture == "bert" else 0
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair=f"<s> $A </s> </s> $B:{second} </s>:{second}",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if architecture == "bert" else [])]
    marks = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=names,
        model_max_length=128,
        **marks,
    )


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Save a random model of two layers, text encoder or cross-encoder, and give its folder."""

    def make(architecture: str, labels: int = 0, safe: bool = True, seed: int = 0, **changes: object) -> Path:
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(architecture)
        tokenizer = train_tokenizer(architecture)
        settings: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "max_position_embeddings": 130,
            "initializer_range": 0.5,
            "type_vocab_size": 2 if architecture == "bert" else 1,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            **({"num_labels": labels} if labels else {}),
            **changes,
        }
        config, body, head = (getattr(transformers, name) for name in ARCHITECTURES[architecture])
        model = (head if labels else body)(config(**settings))
        tokenizer.save_pretrained(folder)
        if safe:
            model.save_pretrained(folder)
        else:
            model.config.save_pretrained(folder)
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        return folder

    return make


def row(model: object, **changes: Any) -> System:  # noqa: ANN401
    return System("essai", "Essai", "encoder", str(model), **changes)


def encode(system: System, texts: Sequence[str] = TEXTS, batch_tokens: int = 256) -> Array:
    """Open, encode, close."""
    model = open_text_model(system, device="cpu", batch_tokens=batch_tokens)
    vectors = model.encode(texts)
    model.close()
    return vectors


def by_sentence_transformers(folder: Path, pooling: str, prompt: str = "", saved: Path | None = None) -> Array:
    """The oracle: the library most of these models are published for."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    body = Transformer(str(folder))
    mode = {"last": "lasttoken"}.get(pooling, pooling)
    oracle = SentenceTransformer(modules=[body, Pooling(24, mode)], device="cpu")
    if saved:
        oracle.save(str(saved))
    return oracle.encode(TEXTS, prompt=prompt, show_progress_bar=False, batch_size=4)


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_vectors_equal_sentence_transformers(make_model: MakeModel, architecture: str, pooling: Any) -> None:  # noqa: ANN401
    folder = make_model(architecture)
    expected = by_sentence_transformers(folder, pooling)
    np.testing.assert_allclose(encode(row(folder, pooling=pooling)), expected, atol=1e-5, rtol=0)
    other = "mean" if pooling != "mean" else "cls"
    assert np.abs(encode(row(folder, pooling=other)) - expected).max() > 0.1, "negative control: another pooling"


def test_vectors_of_bloom_equal_sentence_transformers(tiny_bloom: Path) -> None:
    expected = by_sentence_transformers(tiny_bloom, "last")
    vectors = encode(row(tiny_bloom, pooling="last", metric="l2"))
    np.testing.assert_allclose(unit(vectors), unit(expected), atol=1e-5, rtol=0)
    np.testing.assert_allclose(vectors, expected, atol=3e-5, rtol=0)  # raw, of length 5: what the L2 of v1 needs
    mean = encode(row(tiny_bloom, pooling="mean"))  # padded on the left, not by the engine
    np.testing.assert_allclose(unit(mean), unit(by_sentence_transformers(tiny_bloom, "mean")), atol=1e-5, rtol=0)
    assert np.abs(unit(mean) - unit(expected)).max() > 0.1


def test_a_prefix_is_a_prompt(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("xlm-roberta")
    expected = by_sentence_transformers(folder, "mean", prompt="query: ")
    model = open_text_model(row(folder, pooling="mean"), device="cpu")
    np.testing.assert_allclose(cached_vectors(model, TEXTS, tmp_path, prefix="query: "), expected, atol=1e-5, rtol=0)
    without = cached_vectors(model, TEXTS, tmp_path)
    assert np.abs(without - expected).max() > 0.1, "negative control: without the prefix"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_and_length_are_read_from_the_folder(make_model: MakeModel, tmp_path: Path, pooling: str) -> None:
    saved = tmp_path / "st"
    expected = by_sentence_transformers(make_model("mpnet"), pooling, saved=saved)
    assert find_model(str(saved)).pooling == pooling
    np.testing.assert_allclose(encode(row(saved)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_max_tokens": False}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_pooling_files_old_and_new(make_model: MakeModel, values: dict[str, Any], told: str) -> None:
    folder = make_model("bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 24, **values}))
    assert find_model(str(folder)).pooling == told


def test_a_pooling_not_known_here(make_model: MakeModel) -> None:
    folder = make_model("bert")
    (folder / "1_Pooling").mkdir()
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(both))
    with pytest.raises(ValueError, match=r"asks for pooling 'mean\+max_tokens', but only last, mean, cls are known"):
        open_text_model(row(folder), device="cpu")
    open_text_model(row(folder, pooling="mean"), device="cpu")


def test_pooling_without_a_file(make_model: MakeModel, tiny_bloom: Path) -> None:
    assert [find_model(str(folder)).pooling for folder in (tiny_bloom, make_model("camembert"))] == ["last", "mean"]


def test_pooling_by_hand() -> None:
    states = torch.tensor([[[1.0], [3.0], [9.0]], [[9.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])  # padded on the right, then on the left
    assert [pool(states, mask, mode).flatten().tolist() for mode in ("mean", "cls", "last")] == [[2, 5], [1, 4], [3, 6]]


def test_a_text_alone_equals_the_same_text_among_others(make_model: MakeModel, tiny_bloom: Path) -> None:
    for folder in (make_model("camembert"), tiny_bloom):
        together = encode(row(folder))
        alone = np.concatenate([encode(row(folder), [text], batch_tokens=1) for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=2e-5, rtol=0)


def test_length_is_the_models_own_or_the_rows(make_model: MakeModel) -> None:
    folder = make_model("camembert")
    config = transformers.AutoConfig.from_pretrained(folder)
    assert token_limit(AutoTokenizer.from_pretrained(folder), config) == 128  # two positions are the padding's
    long = ["la tour " * 200]
    np.testing.assert_array_equal(encode(row(folder), long), encode(row(folder, max_length=128), long))
    assert np.abs(encode(row(folder), long) - encode(row(folder, max_length=9), long)).max() > 0.01
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    np.testing.assert_array_equal(encode(row(folder), long), encode(row(folder, max_length=9), long))


def test_progress_counts_every_text(make_model: MakeModel, tiny_bloom: Path) -> None:
    for folder in (make_model("bert"), tiny_bloom):
        done: list[int] = []
        open_text_model(row(folder), device="cpu", batch_tokens=64).encode(TEXTS, done.append)
        assert sum(done) == len(TEXTS)
        assert len(done) > 1


def test_old_pickled_weights_load_but_never_run_code(make_model: MakeModel) -> None:
    expected = encode(row(make_model("camembert")))
    folder = make_model("camembert", safe=False)
    np.testing.assert_array_equal(encode(row(folder)), expected)

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(folder / "trap"),))

    torch.save({"embeddings.word_embeddings.weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelNotAvailable, match="not available here"):
        encode(row(folder))
    assert not (folder / "trap").exists()


def test_code_that_comes_with_a_model_is_not_run(make_model: MakeModel, edit_config: Callable[..., None]) -> None:
    folder = make_model("camembert")
    (folder / "theirs.py").write_text("raise SystemExit('ran')")
    edit_config(folder, model_type="theirs", auto_map={"AutoConfig": "theirs.C", "AutoModel": "theirs.M"})
    with pytest.raises(ModelNotAvailable):
        encode(row(folder))


@pytest.mark.parametrize("architecture", ["xlm-roberta", "bloom"])
def test_broken_weights_name_the_system_and_the_first_text(
    make_model: MakeModel, make_bloom: MakeBloom, architecture: str, tmp_path: Path
) -> None:
    folder = make_bloom() if architecture == "bloom" else make_model(architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (token,) = tokenizer("x", add_special_tokens=False)["input_ids"][-1:]
    weights = transformers.AutoModel.from_pretrained(folder)
    weights.get_input_embeddings().weight.data[token] = torch.nan
    weights.save_pretrained(folder)
    texts = ["a", "é", "Paris", "x", "la", "x"]
    model = open_text_model(row(folder), device="cpu")
    with pytest.raises(VectorsNotFinite, match=r"system 'essai' gave NaN or Inf for text 3 \(counted from 0\)"):
        model.encode(texts)
    with pytest.raises(ValueError, match="for text 3"):
        cached_vectors(model, texts, tmp_path, shard_texts=2)


def test_a_ranker_is_not_a_complete_text_model(make_model: MakeModel, edit_config: Callable[..., None]) -> None:
    folder = make_model("camembert")
    edit_config(folder, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"lacks 16 weights of a CamembertModel \(first: encoder\.layer\.2"):
        encode(row(folder))
    with pytest.raises(ValueError, match="weights of a CamembertForSequenceClassification"):
        score(ranker(make_model("camembert")))


# --- what is not here ---------------------------------------------------------------------------------------------


def test_every_published_model_is_said_to_be_not_here_at_once() -> None:
    systems, rankers = read_systems()
    begun = time.perf_counter()
    models = [system.model for system in systems.values()] + [ranker.model for ranker in rankers.values()]
    wanted = [model for model in models if "/" in model]
    for name in wanted:
        with pytest.raises(ModelNotAvailable, match=rf"^{name} is not available here: .*\S$"):
            find_model(name, "no-such-revision", local_files_only=True)
    assert len(wanted) == 14
    assert time.perf_counter() - begun < 2


def test_a_hub_that_does_not_answer_costs_no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    begun = time.perf_counter()
    with pytest.raises(ModelNotAvailable, match="the Hugging Face Hub was not asked or does not answer"):
        find_model("nobody/nothing")
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # asked once: the next model does not wait
    assert time.perf_counter() - begun < 2


class FakeHub:
    """A Hub of one model, in place of the client's class."""

    answer: Any = None

    def model_info(self, name: str, revision: str | None, timeout: float) -> Any:  # noqa: ANN401
        assert timeout <= 2
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    """Answer in place of the Hub."""
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(model_files, "stay_offline_if_unreachable", lambda *_: True)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    return FakeHub


def test_a_model_that_the_hub_refuses_is_one_line(hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "answer", PermissionError("401: this model is gated.\n\nAsk for access."))
    with pytest.raises(ModelNotAvailable) as caught:
        find_model("nobody/gated")
    assert str(caught.value) == (
        "nobody/gated is not available here: PermissionError: 401: this model is gated. Ask for access."
    )


def test_a_model_of_the_hub_is_known_by_its_commit(
    hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch, make_model: MakeModel, tmp_path: Path
) -> None:
    import huggingface_hub

    commit, asked = "0123abcd" * 5, {}
    snapshot = tmp_path / commit
    make_model("mpnet").rename(snapshot)
    names = [path.name for path in snapshot.iterdir()]
    extra = ["pytorch_model.bin", "onnx/model.onnx", "README.md", "1_Pooling/config.json", "tf_model.h5"]
    siblings = [SimpleNamespace(rfilename=name) for name in [*names, *extra]]
    monkeypatch.setattr(hub, "answer", SimpleNamespace(sha=commit, siblings=siblings))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **k: asked.update(k) or str(snapshot))
    files = find_model("somebody/mpnet", "main")
    assert (files.commit, files.fingerprint, asked["revision"]) == (commit, commit, commit)
    assert set(asked["allow_patterns"]) == {*names, "1_Pooling/config.json"}  # no second copy of the weights
    assert encode(row(files.folder)).shape == (len(TEXTS), 24)


def test_a_model_downloaded_before_is_found_without_the_hub(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--somebody--mpnet"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text("abc123")
    (kept / "snapshots").mkdir()
    make_model("mpnet").rename(kept / "snapshots/abc123")
    assert find_model("somebody/mpnet").fingerprint == "abc123"
    for weights in (kept / "snapshots/abc123").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelNotAvailable, match="holds no weights"):
        find_model("somebody/mpnet")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", None, "cannot read its config.json"),
        ("config.json", "{", "cannot read its config.json"),
        ("config.json", "[]", "its config.json is not a JSON object"),
        ("config.json", "{}", "names no model_type"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", "torn", "Safetensor"),
        ("tokenizer.json", "{", ""),
    ],
)
@pytest.mark.parametrize("architecture", ["bert", "bloom"])
def test_a_damaged_folder_is_one_line(
    make_model: MakeModel, make_bloom: MakeBloom, architecture: str, file: str, content: str | None, told: str
) -> None:
    folder = make_bloom() if architecture == "bloom" else make_model(architecture)
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(ModelNotAvailable, match=f"^{folder} is not available here: .*{told}") as caught:
        encode(row(folder))
    assert "\n" not in str(caught.value)


def test_a_fingerprint_follows_weights_and_settings(make_model: MakeModel) -> None:
    folder = make_model("bert")
    prints = [
        open_text_model(system, device="cpu").fingerprint
        for system in (
            row(folder),
            row(folder, pooling="cls"),
            row(folder, max_length=9),
            row(make_model("bert", seed=1)),
        )
    ]
    assert len(set(prints)) == 4
    assert open_text_model(row(make_model("bert")), device="cpu").fingerprint == prints[0]  # the same bytes elsewhere


# --- cross-encoders -----------------------------------------------------------------------------------------------


def ranker(model: object, **changes: Any) -> Ranker:  # noqa: ANN401
    return Ranker("juge", "Juge", str(model), **changes)


def opened(asked: Ranker, batch_tokens: int = 256) -> CrossEncoder:
    return open_cross_encoder(asked, device="cpu", batch_tokens=batch_tokens)


def score(asked: Ranker) -> Array:
    """All contexts for both questions."""
    model = opened(asked)
    scores = np.concatenate(model.score_many(QUESTIONS, [CONTEXTS, CONTEXTS]))
    model.close()
    return scores


def by_cross_encoder(folder: Path, context_first: bool) -> Array:
    """The oracle: sentence-transformers' CrossEncoder, its logits turned into probabilities here."""
    from sentence_transformers import CrossEncoder as Oracle

    pairs = [pair if context_first else pair[::-1] for pair in PAIRS]
    oracle = Oracle(str(folder), device="cpu", activation_fn=torch.nn.Identity(), max_length=128)
    logits = torch.as_tensor(oracle.predict(pairs, show_progress_bar=False))
    return (logits.softmax(-1)[:, 1] if logits.ndim == 2 else logits.sigmoid()).numpy()


@pytest.mark.parametrize("context_first", [False, True])
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("architecture", ["camembert", "xlm-roberta", "bert"])
def test_probabilities_equal_sentence_transformers(
    make_model: MakeModel, architecture: str, labels: int, context_first: bool
) -> None:
    folder = make_model(architecture, labels=labels)
    expected = by_cross_encoder(folder, context_first)
    found = score(ranker(folder, context_first=context_first))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert found.dtype == np.float32
    swapped = score(ranker(folder, context_first=not context_first))
    assert np.abs(swapped - expected).max() > 0.01, "negative control: the pair in the other order"


def test_probabilities_of_bloom_equal_the_pipeline(tiny_ranker: Path) -> None:
    classify = pipeline("text-classification", model=str(tiny_ranker), top_k=None, device="cpu")
    answers = [classify({"text": context, "text_pair": question}) for context, question in PAIRS]
    expected = [next(row["score"] for row in rows if row["label"] == "LABEL_1") for rows in answers]
    np.testing.assert_allclose(score(ranker(tiny_ranker)), expected, atol=1e-5, rtol=0)
    assert np.abs(score(ranker(tiny_ranker, context_first=False)) - expected).max() > 0.01


def test_the_positive_label_is_read_from_the_config(make_model: MakeModel, edit_config: Callable[..., None]) -> None:
    folder = make_model("camembert", labels=2)
    expected = score(ranker(folder))
    edit_config(folder, id2label={"0": "relevant", "1": "no"}, label2id={"relevant": 0, "no": 1})
    np.testing.assert_allclose(score(ranker(folder)), 1 - expected, atol=1e-6, rtol=0)
    edit_config(folder, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(ValueError, match="cannot tell which label means relevant"):
        score(ranker(folder))
    with pytest.raises(ValueError, match="expected two"):
        score(ranker(make_model("camembert", labels=3)))


def test_one_question_many_questions_and_progress(make_model: MakeModel, tiny_ranker: Path) -> None:
    for folder in (make_model("camembert", labels=1), tiny_ranker):
        model, done = opened(ranker(folder)), list[int]()
        many = model.score_many([*QUESTIONS, "Qui ?"], [CONTEXTS, CONTEXTS[:1], []], done.append)
        assert [len(part) for part in many] == [4, 1, 0]
        assert sum(done) == 5
        np.testing.assert_allclose(model.score(QUESTIONS[0], CONTEXTS), many[0], atol=1e-5, rtol=0)
        odds = model.log_odds_many(QUESTIONS[:1], [CONTEXTS])[0]
        np.testing.assert_allclose(1 / (1 + np.exp(-odds.astype(np.float64))), many[0], atol=1e-6, rtol=0)
        with pytest.raises(ValueError, match="but got 1 lists for 2 questions"):
            model.score_many(QUESTIONS, [CONTEXTS])


@pytest.mark.parametrize("context_first", [False, True])
def test_only_the_context_is_cut(make_model: MakeModel, context_first: bool) -> None:
    folder = make_model("camembert", labels=1)
    model = opened(ranker(folder, context_first=context_first, max_length=60))
    end = model.score(QUESTIONS[0], ["la tour " * 200, "la tour " * 300])
    assert end[0] == pytest.approx(end[1], abs=1e-6)
    with pytest.raises(ValueError, match="cannot read a pair of max_length=60 tokens"):
        model.score("où ? " * 100, ["Paris"])


def test_broken_rankers_are_named(make_model: MakeModel, make_bloom: MakeBloom) -> None:
    for folder in (make_model("camembert", labels=1), make_bloom(ranker=True)):
        weights = AutoModelForSequenceClassification.from_pretrained(folder)
        weights.get_input_embeddings().weight.data[:] = torch.nan
        weights.save_pretrained(folder)
        with pytest.raises(ValueError, match="ranker 'juge'"):
            score(ranker(folder))


# --- BM25 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passages", "stemming"), [(["a", "b"], False), (["", " "], True), (["le la", "à"], True), ([], False)]
)
def test_bm25_without_a_word_is_a_clear_line(passages: list[str], stemming: bool) -> None:
    with pytest.raises(ValueError, match=rf"BM25 needs a word of two letters .*the {len(passages)} passages hold none"):
        Bm25(passages, "fr", stemming=stemming)
    assert Bm25([*passages, "chat"], "fr", stemming=stemming).score_block(["chat"])(0, 1)[0, -1] > 0


def test_bm25_by_hand() -> None:
    scores = Bm25(["chat noir", "chat blanc", "chien noir noir"], "fr").score_block(["noir", "chat noir", "zèbre", ""])
    block = scores(0, 4)
    assert (block.shape, block.dtype) == ((4, 3), np.float32)
    average, idf = 7 / 3, np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # "noir" stands in two of three passages
    expected = [idf * tf / (tf + 1.5 * (0.25 + 0.75 * n / average)) for tf, n in ((1, 2), (0, 2), (2, 3))]
    np.testing.assert_allclose(block[0], expected, rtol=1e-6)
    assert block[1].argmax() == 0
    assert not block[2:].any()
    np.testing.assert_array_equal(scores(1, 3), block[1:3])


def test_stemming_drops_stop_words_and_endings() -> None:
    passages = ["Les tours sont à Paris", "Running to the towers"]
    assert not Bm25(passages, "fr").score_block(["une tour"])(0, 1).any()
    stemmed = Bm25(passages, "fr", stemming=True)
    assert (stemmed.score_block(["une tour"])(0, 1) > 0).tolist() == [[True, False]]
    assert not stemmed.score_block(["les"])(0, 1).any()
    assert not stemmed.score_block(["running"], "en")(0, 1).any()  # "run" is not "running"
    assert (stemmed.score_block(["running"])(0, 1) > 0).tolist() == [[False, True]]
    with pytest.raises(ValueError, match="no stemming for language 'de': expected one of fr, en"):
        Bm25(passages, "de", stemming=True)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name in (("bm25s", "bm25s"), ("Stemmer", "PyStemmer")):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            with pytest.raises(
                ImportError, match=rf'^{name} is needed for BM25: pip install "bloomz-haystack\[benchmark\]"'
            ):
                Bm25(["Paris"], "fr", stemming=True)


@pytest.fixture(scope="module")
def corpora() -> list[Corpus]:
    """The three sets with known figures."""
    if not BENCH.is_dir():
        pytest.skip("needs the evaluation sets; set BLOOMZ_BENCH to their folder")
    files = [("squad", "squad2-dev-en.json", "en"), ("piaf", "piaf-dev.json", "fr")]
    same = [read_corpus(name, BENCH / file, lang, lang) for name, file, lang in files]
    return [*same, read_corpus("squad-fr-slice", BENCH / "squad-fr-slice.jsonl", "fr", "en")]


@pytest.mark.parametrize(
    ("stemming", "told"),
    [(False, [(78.9, 85.2), (71.6, 78.6), (15.0, 23.7)]), (True, [(80.2, 86.3), (72.5, 79.9), (15.4, 24.4)])],
)
def test_bm25_gives_the_known_figures(corpora: list[Corpus], stemming: bool, told: list[tuple[float, float]]) -> None:
    for corpus, expected in zip(corpora, told, strict=True):
        index = Bm25([passage.text for passage in corpus.passages], corpus.passage_lang, stemming)
        block = index.score_block([question.text for question in corpus.questions])
        ranks = rank(block, [question.gold for question in corpus.questions], len(corpus.passages)).optimistic
        figures = 100 * (ranks <= 1).mean(), 100 * (1 / ranks).mean()
        assert figures == pytest.approx(expected, abs=0.5), corpus.name


# --- the cache ----------------------------------------------------------------------------------------------------


class Counting:
    """A model that counts what it encodes, and may be interrupted."""

    def __init__(self, fingerprint: str = "a", stop_at: str = "") -> None:
        self.fingerprint, self.stop_at, self.seen = fingerprint, stop_at, list[str]()

    def encode(self, texts: Sequence[str], progress: Callable[[int], Any] | None = None) -> Array:
        if self.stop_at in texts and self.stop_at:
            raise KeyboardInterrupt
        self.seen += texts
        if progress:
            progress(len(texts))
        return np.asarray([[len(text), sum(map(ord, text)), 1] for text in texts], dtype=np.float32)


NUMBERS = [f"texte {i}" for i in range(10)]


def test_a_second_table_costs_no_encoding(tmp_path: Path) -> None:
    first, second, done = Counting(), Counting(), list[int]()
    vectors = cached_vectors(first, NUMBERS, tmp_path, ids=[str(i) for i in range(10)], progress=done.append)
    again = cached_vectors(second, NUMBERS, tmp_path, progress=done.append)
    np.testing.assert_array_equal(vectors, first.encode(NUMBERS))
    np.testing.assert_array_equal(again, vectors)
    assert (second.seen, sum(done)) == ([], 20)
    assert isinstance(again, np.memmap)
    again[:] = 0  # stays in memory
    np.testing.assert_array_equal(cached_vectors(second, NUMBERS, tmp_path), vectors)
    (record,) = tmp_path.glob("*.json")
    assert json.loads(record.read_text())["ids"] == [str(i) for i in range(10)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("change", ["texts", "order", "prefix", "model"])
def test_what_is_different_is_encoded(tmp_path: Path, change: str) -> None:
    cached_vectors(Counting(), NUMBERS, tmp_path)
    model = Counting("b" if change == "model" else "a")
    texts = {"texts": [*NUMBERS[:-1], "autre"], "order": NUMBERS[::-1]}.get(change, NUMBERS)
    prefix = "q: " if change == "prefix" else ""
    vectors = cached_vectors(model, texts, tmp_path, prefix=prefix)
    assert model.seen == [prefix + text for text in texts]
    np.testing.assert_array_equal(vectors, Counting().encode(model.seen))


def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(Counting(stop_at=NUMBERS[7]), NUMBERS, tmp_path, shard_texts=3)
    model, done = Counting(), list[int]()
    vectors = cached_vectors(model, NUMBERS, tmp_path, shard_texts=3, progress=done.append)
    assert (model.seen, sum(done)) == (NUMBERS[6:], 10)
    np.testing.assert_array_equal(vectors, Counting().encode(NUMBERS))
    assert len(list(tmp_path.iterdir())) == 2, "shards are removed once joined"


@pytest.mark.parametrize("damage", ["short", "long", "flipped", "gone", "record", "other record"])
def test_a_torn_file_is_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = np.array(cached_vectors(Counting(), NUMBERS, tmp_path))
    (file,), (record,) = tmp_path.glob("*.npy"), tmp_path.glob("*.json")
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif "record" in damage:
        record.write_text("{" if damage == "record" else json.dumps({**json.loads(record.read_text()), "count": 9}))
    else:
        file.write_bytes({"short": data[:-5], "long": data + b"0"}.get(damage, data[:-1] + bytes([data[-1] ^ 1])))
    model = Counting()
    np.testing.assert_array_equal(cached_vectors(model, NUMBERS, tmp_path), expected)
    assert model.seen == NUMBERS
    assert "computed again" in caplog.text


def test_a_torn_shard_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(Counting(stop_at=NUMBERS[7]), NUMBERS, tmp_path, shard_texts=3)
    (shard,) = tmp_path.glob("*.3-6.npy")
    shard.write_bytes(shard.read_bytes()[:-1])
    model = Counting()
    cached_vectors(model, NUMBERS, tmp_path, shard_texts=3)
    assert model.seen == NUMBERS[3:]


def test_borders_between_texts_count() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])
    assert hash_texts(["é"]) != hash_texts(["e"])
    assert len(hash_texts(["\ud800"])) == 64  # a lone surrogate cannot be written as UTF-8


def test_nothing_to_encode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no text to encode"):
        cached_vectors(Counting(), [], tmp_path)
