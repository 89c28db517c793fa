"""Random Bloom checkpoints of two layers, built on the spot: what the published ones are, only smaller and untrained.

The weights are large and the layer norms random, so that an error in ALiBi, in the mask or in the order of the tokens
moves every number; nothing is downloaded.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # its retries without a network would stand in other tests' logs
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models of two layers: a second thread only waits

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BloomConfig, BloomForSequenceClassification, BloomModel, PreTrainedTokenizerFast

MakeBloom = Callable[..., Path]

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>"]  # ids 0 to 3, as in the published checkpoints
CORPUS = [
    "La tour Eiffel se trouve à Paris, au bord de la Seine.",
    "The Eiffel tower stands in Paris, on the banks of the Seine.",
    "Où se trouve la tour Eiffel ? Qui l'a construite, et quand ?",
    "Where is the Eiffel tower? Who built it, and when?",
]


def train_tokenizer(template: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens, padded on the left as Bloom's; ``template`` makes it add special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> <s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
    )


def randomize(model: torch.nn.Module) -> None:
    """Give layer norms a random gain and every bias a random value: at their defaults, swapping two shows nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.3)
            elif parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)


@pytest.fixture(autouse=True)
def loud_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb run in this process leaves its logging alone: other tests look at the logs."""
    monkeypatch.setattr("bloomz_haystack.cli.errors.quiet_libraries", lambda: None)


@pytest.fixture(scope="session")
def reserve_port() -> Iterator[Callable[[], int]]:
    """Return a port of 127.0.0.1 for a server that cannot take one of the kernel's choice.

    A socket that is bound and does not listen holds it: the server may bind beside it, and the kernel gives it to
    nobody else, before the server starts and while it is stopped.
    """
    with ExitStack() as sockets:

        def reserve() -> int:
            holder = sockets.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            return int(holder.getsockname()[1])

        yield reserve


@pytest.fixture(scope="session")
def make_bloom(tmp_path_factory: pytest.TempPathFactory) -> MakeBloom:
    """Save a random checkpoint and give its folder."""

    def make(
        *,
        ranker: bool = False,
        heads: int = 4,
        template: bool = False,
        seed: int = 0,
        safe: bool = True,
        **config: object,
    ) -> Path:
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("bloom")
        tokenizer = train_tokenizer(template)
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
        size = {"vocab_size": len(tokenizer), "hidden_size": 24, "n_layer": 2, "n_head": heads}
        settings = {**size, **ids, "initializer_range": 0.5, "seq_length": 2048, **config}
        architecture = BloomForSequenceClassification if ranker else BloomModel
        model = architecture(BloomConfig(**settings))
        randomize(model)
        tokenizer.save_pretrained(folder)
        if safe:
            model.save_pretrained(folder)
        else:
            model.config.save_pretrained(folder)
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bloom(make_bloom: MakeBloom) -> Path:
    """Folder of a random retriever."""
    return make_bloom()


@pytest.fixture(scope="session")
def tiny_ranker(make_bloom: MakeBloom) -> Path:
    """Folder of a random reranker with two labels."""
    return make_bloom(ranker=True, seed=1)


@pytest.fixture
def edit_config() -> Callable[..., None]:
    """Change keys of a saved checkpoint's config.json."""

    def edit(folder: Path, **changes: object) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit
