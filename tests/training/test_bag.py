"""A bag of token vectors, and the Bloom of two layers that computes the same sum."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from bloomz_haystack.training import tiny
from bloomz_haystack.training.data.templates import text_template
from bloomz_haystack.training.objectives.retriever import text_vectors
from bloomz_haystack.training.team import join_team
from bloomz_haystack.training.tiny.bag import ALIBI_SLOPE, NOVELTY_GAIN, TokenBag, place_weights
from bloomz_haystack.training.tiny.bag_to_bloom import RESERVED
from bloomz_haystack.training.tiny.negatives import token_encoder
from bloomz_haystack.training.tiny.tokenizer import train_tokenizer
from bloomz_haystack.training.train import train_retriever
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.forward import last_hidden_states, reference_last_hidden_states
from haystack_integrations.common.bloomz.packing import pack

SHAPE = {"vocab_size": 300, "hidden_size": 128, "n_layer": 2, "n_head": 1}
START = 1
LENGTHS = (1, 2, 7, 60, 300)


@pytest.fixture(scope="module")
def bag() -> TokenBag:
    """Return a bag of random vectors and weights."""
    return TokenBag(SHAPE, np.random.default_rng(0).normal(size=300), seed=0)


@pytest.fixture(scope="module")
def texts() -> list[npt.NDArray[np.int64]]:
    """Return texts full of repeated tokens."""
    rng = np.random.default_rng(1)
    return [rng.integers(4, 60, size=length) for length in LENGTHS]


WORDS = {"english": ("bank", "river", "tower", "flour"), "french": ("banque", "rivière", "tour", "farine")}


def recipe(folder: Path) -> Path:
    """Write pairs in both languages and the settings of a short run; JSON is YAML."""
    rng = np.random.default_rng(0)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as out:
        for number in range(300):
            chosen = rng.integers(4, size=6)
            sides = {language: [words[i] for i in chosen] for language, words in WORDS.items()}
            query = {language: f"{words[0]} {words[1]} {number} ?" for language, words in sides.items()}
            positive = {language: f"{' '.join(words)} {number}" for language, words in sides.items()}
            out.write(json.dumps({"id": number, "query": query, "positive": positive}, ensure_ascii=False) + "\n")
    sections = {
        "data": {"sources": [{"path": "pairs.jsonl"}], "single_source": True},
        "model": {"bag": True, "shape": {**SHAPE, "vocab_size": 400}},
        "optimizer": {"learning_rate": 1e-2, "embedding_learning_rate": 5e-2, "warmup_steps": 2},
        "run": {"steps": 20, "batch_size": 64, "save_every": 10, "weights": "float8_e4m3fn", "tensorboard": False},
    }
    (folder / "recipe.yaml").write_text(json.dumps(sections), encoding="utf-8")
    return folder / "recipe.yaml"


def sums(bag: TokenBag, texts: list[npt.NDArray[np.int64]]) -> torch.Tensor:
    """Return the bag's vectors, less their mean: Bloom's layer norms take it away."""
    with torch.no_grad():
        vectors = bag(texts)
    return vectors - vectors.mean(1, keepdim=True)


def test_place_weights_equal_a_sum_written_as_a_loop(texts: list[npt.NDArray[np.int64]]) -> None:
    expected = []
    for ids in texts:
        for place, token in enumerate(ids):
            likes = sum(np.exp((i + 1) * ALIBI_SLOPE) for i in range(place + 1) if ids[i] == token)
            expected.append(NOVELTY_GAIN / (1 + likes) + (place - len(ids) + 1) * ALIBI_SLOPE)
    found = place_weights(torch.from_numpy(np.concatenate(texts)), torch.tensor(LENGTHS)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_trains_the_bag_as_the_cpu_does(texts: list[npt.NDArray[np.int64]]) -> None:
    made = []
    for device in ("cpu", "cuda"):
        bag = TokenBag(SHAPE, np.random.default_rng(0).normal(size=300), seed=0).to(device)
        outputs = bag(texts)
        outputs.square().sum().backward()
        assert bag.vectors.weight.grad is not None
        made.append([outputs.detach().cpu(), bag.vectors.weight.grad.cpu(), bag.log_weights.grad.cpu()])  # type: ignore[union-attr]
        assert bag.bloom().word_embeddings.weight.device.type == "cpu"
    for exact, found in zip(*made, strict=True):
        torch.testing.assert_close(found, exact, atol=1e-5 * float(exact.abs().max()), rtol=1e-4)


@torch.no_grad()
def test_the_bloom_computes_what_the_bag_does(bag: TokenBag, texts: list[npt.NDArray[np.int64]]) -> None:
    started = [np.concatenate([[START], ids]) for ids in texts]
    model = bag.bloom()
    plain = reference_last_hidden_states(model, started)
    torch.testing.assert_close(last_hidden_states(model, pack(started)), plain, atol=1e-4, rtol=1e-4)
    assert float(F.cosine_similarity(plain[:, RESERVED:], sums(bag, texts)).min()) > 0.999
    # without the start of the text there is no novelty, and repeats count in full
    without = reference_last_hidden_states(model, texts)[:, RESERVED:]
    assert float(F.cosine_similarity(without, sums(bag, texts))[3:].max()) < 0.99


def test_repeats_saturate_and_novelty_outweighs_alibi() -> None:
    repeated = place_weights(torch.tensor([7, 7, 7, 8]), torch.tensor([4])).numpy()
    assert repeated[0] > repeated[1] > repeated[2]
    assert np.exp(repeated[:3] - repeated[3]).sum() < 2  # three times the same token: less than two of another
    passage = place_weights(torch.arange(200), torch.tensor([200])).numpy()
    assert 0 < passage[0] - passage[-1] < 199 * ALIBI_SLOPE  # ALiBi alone: minus that much


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn])
def test_a_bag_is_read_back_from_its_bloom(
    bag: TokenBag, texts: list[npt.NDArray[np.int64]], dtype: torch.dtype
) -> None:
    model = bag.bloom()
    for weight in model.parameters():
        weight.data = weight.data.to(dtype if weight.dim() > 1 else torch.float16).float()
    assert float(F.cosine_similarity(sums(TokenBag.of(model), texts), sums(bag, texts)).min()) > 0.998
    with torch.no_grad():
        model.h[0].mlp.dense_4h_to_h.weight[0, 0] = 1.0
    with pytest.raises(ValueError, match="a bag is read from a Bloom that was written from one"):
        TokenBag.of(model)


def test_negatives_are_found_by_the_sum_where_a_retriever_is_one(
    bag: TokenBag, texts: list[npt.NDArray[np.int64]], tmp_path: Path
) -> None:
    tokenizer, team = train_tokenizer(["a bank, une banque"] * 3, 300), join_team()
    tokenizer.save_pretrained(tmp_path)
    model = bag.bloom()
    model.save_pretrained(tmp_path)
    found = F.normalize(token_encoder(str(tmp_path), 1000, team)(texts))
    with torch.no_grad():
        wanted = F.normalize(text_vectors(model, texts, text_template(tokenizer)))
    assert found.shape[1] == wanted.shape[1] - RESERVED  # summed, not computed by a forward pass
    assert float((found @ found.T - wanted @ wanted.T).abs().max()) < 1e-3
    model.h[1].self_attention.dense.weight.data[::2] = 0  # trained on as a Bloom: no sum any more
    model.save_pretrained(tmp_path)
    found = F.normalize(token_encoder(str(tmp_path), 1000, team)(texts))
    with torch.no_grad():
        assert torch.allclose(found, F.normalize(text_vectors(model, texts, text_template(tokenizer))), atol=1e-6)
    assert float((found @ found.T - wanted @ wanted.T).abs().max()) > 1e-3


def test_a_bag_is_of_two_layers_and_one_head() -> None:
    with pytest.raises(ValueError, match="n_layer 2 and n_head 1, but got"):
        TokenBag({**SHAPE, "n_layer": 1}, np.zeros(300), seed=0)


def test_it_trains_into_a_float8_folder_that_loads_everywhere_in_float32(tmp_path: Path) -> None:
    train_retriever(recipe(tmp_path), tmp_path / "out")
    first, last = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert last["loss"] < first["loss"]
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {torch.float8_e4m3fn}
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = ["river bank ?", "la rivière"]
    with torch.no_grad():
        plain = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1].numpy() for text in asked]
    ours = Encoder(open_checkpoint(str(tmp_path / "out"), "embed", device="cpu")).encode(asked, normalize=False)
    np.testing.assert_allclose(ours, plain, atol=1e-4)


def test_one_file_outside_imports_what_makes_the_bundled_pair() -> None:
    folder = Path(tiny.__file__).parent
    importing = {
        path.name
        for path in folder.parents[1].rglob("*.py")
        if folder not in path.parents and "bloomz_haystack.training.tiny" in path.read_text(encoding="utf-8")
    }
    assert importing == {"model.py"}
