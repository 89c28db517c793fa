"""Text models, cross-encoders, BM25 and the cache: the numbers of the libraries they stand for, on tiny models."""

import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from bloomz_haystack.benchmark.corpora.corpora import Corpus, read_corpus
from bloomz_haystack.benchmark.run.ranking import rank
from bloomz_haystack.benchmark.systems.bm25 import Bm25
from bloomz_haystack.benchmark.systems.cross_encoders import CrossEncoder, open_cross_encoder
from bloomz_haystack.benchmark.systems.encoders import VectorsNotFinite, open_text_model
from bloomz_haystack.benchmark.systems.systems import Ranker, System, read_systems
from bloomz_haystack.benchmark.systems.vector_cache import cached_vectors, hash_texts
from bloomz_haystack.models import find as model_files
from bloomz_haystack.models.find import ModelNotAvailable, find_model
from haystack_integrations.common.bloomz.scorer import probabilities

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


def by_transformers(folder: Path, pooling: str, prefix: str = "", limit: int = 128) -> Array:
    """The oracle: Hugging Face's model, one text at a time, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        tokens = tokenizer(prefix + text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]  # (L, H)
        rows.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling])
    return torch.stack(rows).numpy()


def save_for_sentence_transformers(folder: Path, saved: Path, pooling: str, length: int = 128) -> Path:
    """Save a model as sentence-transformers does: with its pooling and its length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(folder)), Pooling(24, {"last": "lasttoken"}.get(pooling, pooling))]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.max_seq_length = length
    model.save(str(saved))
    return saved


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_vectors_equal_plain_transformers(make_model: MakeModel, architecture: str, pooling: Any) -> None:  # noqa: ANN401
    folder = make_model(architecture)
    expected = by_transformers(folder, pooling)
    np.testing.assert_allclose(encode(row(folder, pooling=pooling)), expected, atol=1e-5, rtol=0)
    other = "mean" if pooling != "mean" else "cls"
    assert np.abs(encode(row(folder, pooling=other)) - expected).max() > 0.1, "negative control: another pooling"


def test_vectors_of_bloom_equal_plain_transformers(tiny_bloom: Path) -> None:
    expected = by_transformers(tiny_bloom, "last", limit=512)
    vectors = encode(row(tiny_bloom, pooling="last", metric="l2"))
    np.testing.assert_allclose(unit(vectors), unit(expected), atol=1e-5, rtol=0)
    np.testing.assert_allclose(vectors, expected, atol=3e-5, rtol=0)  # raw, of length 5: what the L2 of v1 needs
    mean = encode(row(tiny_bloom, pooling="mean"))  # padded on the left, not by the engine
    np.testing.assert_allclose(unit(mean), unit(by_transformers(tiny_bloom, "mean", limit=512)), atol=1e-5, rtol=0)
    assert np.abs(unit(mean) - unit(expected)).max() > 0.1


def test_a_prefix_comes_before_each_text(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("xlm-roberta")
    expected = by_transformers(folder, "mean", prefix="query: ")
    model = open_text_model(row(folder, pooling="mean"), device="cpu")
    np.testing.assert_allclose(cached_vectors(model, TEXTS, tmp_path, prefix="query: "), expected, atol=1e-5, rtol=0)
    without = cached_vectors(model, TEXTS, tmp_path)
    assert np.abs(without - expected).max() > 0.1, "negative control: without the prefix"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_and_length_are_read_from_the_folder(make_model: MakeModel, tmp_path: Path, pooling: Any) -> None:  # noqa: ANN401
    folder = make_model("mpnet")
    saved = save_for_sentence_transformers(folder, tmp_path / "saved", pooling, length=20)
    expected = by_transformers(folder, pooling, limit=20)
    np.testing.assert_allclose(encode(row(saved)), expected, atol=1e-5, rtol=0)
    assert np.abs(encode(row(folder, pooling=pooling)) - expected).max() > 0.01, "negative control: another length"
    other = "mean" if pooling != "mean" else "cls"
    asked = encode(row(saved, pooling=other))  # the row's pooling, the folder's length
    np.testing.assert_allclose(asked, by_transformers(folder, other, limit=20), atol=1e-5, rtol=0)


def test_pooling_without_a_file(make_model: MakeModel, tiny_bloom: Path) -> None:
    for folder, pooling, limit in ((tiny_bloom, "last", 512), (make_model("camembert"), "mean", 128)):
        np.testing.assert_allclose(
            encode(row(folder)), by_transformers(folder, pooling, limit=limit), atol=3e-5, rtol=0
        )


def test_a_bloom_saved_with_its_pooling_keeps_it(tiny_bloom: Path, tmp_path: Path) -> None:
    saved = save_for_sentence_transformers(tiny_bloom, tmp_path / "saved", "mean", length=512)
    np.testing.assert_allclose(encode(row(saved)), by_transformers(tiny_bloom, "mean", limit=512), atol=3e-5, rtol=0)
    last = encode(row(saved, pooling="last"))
    np.testing.assert_allclose(last, by_transformers(tiny_bloom, "last", limit=512), atol=3e-5, rtol=0)


def test_a_text_alone_equals_the_same_text_among_others(make_model: MakeModel, tiny_bloom: Path) -> None:
    for folder in (make_model("camembert"), tiny_bloom):
        together = encode(row(folder))
        alone = np.concatenate([encode(row(folder), [text], batch_tokens=1) for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=2e-5, rtol=0)


def test_length_is_the_models_own_or_the_rows(make_model: MakeModel) -> None:
    folder = make_model("camembert")
    long = ["la tour " * 200]
    np.testing.assert_array_equal(encode(row(folder), long), encode(row(folder, max_length=128), long))
    assert np.abs(encode(row(folder), long) - encode(row(folder, max_length=9), long)).max() > 0.01


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
    saved = save_for_sentence_transformers(make_model("camembert"), folder / "saved", "mean")
    (saved / "theirs.py").write_text("raise SystemExit('ran')")
    modules = json.loads((saved / "modules.json").read_text())
    modules[1]["type"] = "theirs.Pooling"
    (saved / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelNotAvailable, match="executes third-party code"):
        encode(row(saved))


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
        cached_vectors(model, texts, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_ranker_is_not_a_complete_text_model(make_model: MakeModel, edit_config: Callable[..., None]) -> None:
    folder = make_model("camembert")
    edit_config(folder, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"lacks 16 weights of a CamembertModel \(first: encoder\.layer\.2"):
        encode(row(folder))
    with pytest.raises(ValueError, match="weights of a CamembertForSequenceClassification"):
        score(ranker(make_model("camembert")))


# --- what is not here ---------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that are called: what is tried again is called again."""
    calls: list[object] = []
    connect = socket.socket.connect

    def counted(calling: socket.socket, address: object) -> None:
        calls.append(address)
        connect(calling, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", counted)
    return calls


def test_every_published_model_is_said_to_be_not_here_at_once(called: list[object]) -> None:
    systems, rankers = read_systems()
    models = [system.model for system in systems.values()] + [ranker.model for ranker in rankers.values()]
    wanted = [model for model in models if "/" in model]
    for name in wanted:
        with pytest.raises(ModelNotAvailable, match=rf"^{name} is not available here: .*\S$"):
            find_model(name, "no-such-revision", local_files_only=True)
    assert len(wanted) == 14
    assert called == []


def test_a_hub_that_does_not_answer_costs_no_long_wait(called: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelNotAvailable, match="the Hugging Face Hub was not asked or does not answer"):
        find_model("nobody/nothing")
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # asked once: the next model does not wait
    assert called == [("127.0.0.1", 9)]


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


def test_a_fingerprint_follows_weights_and_settings(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("bert")
    prints = [
        open_text_model(system, device="cpu").fingerprint
        for system in (
            row(folder),
            row(folder, pooling="cls"),
            row(folder, max_length=9),
            row(make_model("bert", seed=1)),
            row(save_for_sentence_transformers(folder, tmp_path / "mean", "mean")),
            row(save_for_sentence_transformers(folder, tmp_path / "cls", "cls")),
        )
    ]
    assert len(set(prints)) == 6
    assert open_text_model(row(make_model("bert")), device="cpu").fingerprint == prints[0]  # the same bytes elsewhere


# --- cross-encoders -----------------------------------------------------------------------------------------------


def ranker(model: object, **changes: Any) -> Ranker:  # noqa: ANN401
    return Ranker("juge", "Juge", str(model), **changes)


def opened(asked: Ranker, batch_tokens: int = 256) -> CrossEncoder:
    return open_cross_encoder(asked, device="cpu", batch_tokens=batch_tokens)


def score(asked: Ranker) -> Array:
    """Probabilities of all contexts for both questions."""
    model = opened(asked)
    odds = np.concatenate(model.log_odds(QUESTIONS, [CONTEXTS, CONTEXTS]))
    model.close()
    assert odds.dtype == np.float32
    return probabilities(odds)


def by_classifier(folder: Path, context_first: bool) -> Array:
    """The oracle: Hugging Face's model, one pair at a time, its logits turned into probabilities here."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = []
    for pair in PAIRS:
        texts, cut = (pair, "only_first") if context_first else (pair[::-1], "only_second")
        tokens = tokenizer(*texts, truncation=cut, max_length=128, return_tensors="pt")
        with torch.no_grad():
            logits = model(**tokens).logits[0]
        rows.append(logits.softmax(-1)[1] if len(logits) == 2 else logits.sigmoid()[0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("context_first", [False, True])
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("architecture", ["camembert", "xlm-roberta", "bert"])
def test_probabilities_equal_plain_transformers(
    make_model: MakeModel, architecture: str, labels: int, context_first: bool
) -> None:
    folder = make_model(architecture, labels=labels)
    expected = by_classifier(folder, context_first)
    found = score(ranker(folder, context_first=context_first))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
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
        many = model.log_odds([*QUESTIONS, "Qui ?"], [CONTEXTS, CONTEXTS[:1], []], done.append)
        assert [len(part) for part in many] == [4, 1, 0]
        assert sum(done) == 5
        np.testing.assert_allclose(model.log_odds(QUESTIONS[:1], [CONTEXTS])[0], many[0], atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="but got 1 lists for 2 questions"):
            model.log_odds(QUESTIONS, [CONTEXTS])


@pytest.mark.parametrize("context_first", [False, True])
def test_only_the_context_is_cut(make_model: MakeModel, context_first: bool) -> None:
    folder = make_model("camembert", labels=1)
    model = opened(ranker(folder, context_first=context_first, max_length=60))
    end = model.log_odds(QUESTIONS[:1], [["la tour " * 200, "la tour " * 300]])[0]
    assert end[0] == pytest.approx(end[1], abs=1e-6)
    with pytest.raises(ValueError, match="cannot read a pair of max_length=60 tokens"):
        model.log_odds(["où ? " * 100], [["Paris"]])


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


def test_baselines_without_the_extra(make_model: MakeModel, tiny_bloom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    told = r'^sentence-transformers is needed .* pip install "bloomz-haystack\[benchmark\]"$'
    with pytest.raises(ImportError, match=told):
        encode(row(make_model("bert")))
    with pytest.raises(ImportError, match=told):
        score(ranker(make_model("bert", labels=1)))
    assert encode(row(tiny_bloom)).shape == (len(TEXTS), 24)


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
    vectors = cached_vectors(first, NUMBERS, tmp_path, progress=done.append)
    again = cached_vectors(second, NUMBERS, tmp_path, progress=done.append)
    np.testing.assert_array_equal(vectors, first.encode(NUMBERS))
    np.testing.assert_array_equal(again, vectors)
    assert (second.seen, sum(done)) == ([], 20)
    again[:] = 0  # stays in memory
    np.testing.assert_array_equal(cached_vectors(second, NUMBERS, tmp_path), vectors)
    (file,) = tmp_path.iterdir()
    (plain := tmp_path / "plain").touch()
    assert file.stat().st_mode == plain.stat().st_mode, "as the umask says"


@pytest.mark.parametrize("change", ["texts", "order", "prefix", "model"])
def test_what_is_different_is_encoded(tmp_path: Path, change: str) -> None:
    cached_vectors(Counting(), NUMBERS, tmp_path)
    model = Counting("b" if change == "model" else "a")
    texts = {"texts": [*NUMBERS[:-1], "autre"], "order": NUMBERS[::-1]}.get(change, NUMBERS)
    prefix = "q: " if change == "prefix" else ""
    vectors = cached_vectors(model, texts, tmp_path, prefix=prefix)
    assert model.seen == [prefix + text for text in texts]
    np.testing.assert_array_equal(vectors, Counting().encode(model.seen))


def test_an_interrupted_encoding_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(Counting(stop_at=NUMBERS[7]), NUMBERS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["short", "long", "empty", "other texts", "other format", "other count"])
def test_a_torn_or_foreign_file_is_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = cached_vectors(Counting(), NUMBERS, tmp_path)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    if damage == "other texts":
        cached_vectors(Counting(), NUMBERS[::-1], tmp_path)
        (other,) = set(tmp_path.iterdir()) - {file}
        other.rename(file)
    elif damage == "other count":
        with safe_open(file, "np") as kept:
            save_file({"vectors": expected[:3]}, file, kept.metadata())
    else:
        broken = {"short": data[:-5], "long": data + b"0", "empty": b"", "other format": b"\x93NUMPY" + data}
        file.write_bytes(broken[damage])
    model = Counting()
    np.testing.assert_array_equal(cached_vectors(model, NUMBERS, tmp_path), expected)
    assert model.seen == NUMBERS
    assert [record.message.count("computed again") for record in caplog.records] == [1]
    caplog.clear()
    cached_vectors(model, NUMBERS, tmp_path)
    assert (model.seen, caplog.records) == (NUMBERS, [])


def test_borders_between_texts_count() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])
    assert hash_texts(["é"]) != hash_texts(["e"])
    assert len(hash_texts(["\ud800"])) == 64  # a lone surrogate cannot be written as UTF-8


def test_nothing_to_encode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no text to encode"):
        cached_vectors(Counting(), [], tmp_path)
