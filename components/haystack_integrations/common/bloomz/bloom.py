"""The layers of a Bloom around weights that exist already, under the names that its checkpoints use.

The engine computes with them (`forward`). Calling a model runs Hugging Face's own forward on the same layers, slow and
plain: the reference of every fast path, and the only place here that imports transformers.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

HEAD = "score.weight"
# Of Hugging Face's `BloomConfig`; what has no default here must stand in config.json.
DEFAULTS = {
    "layer_norm_epsilon": 1e-5,
    "apply_residual_connection_post_layernorm": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "architectures": None,
}
REQUIRED = ("vocab_size", "hidden_size", "n_layer", "n_head")

Tensors = Mapping[str, torch.Tensor]


class BloomConfiguration(SimpleNamespace):
    """What config.json says, as attributes."""

    def __init__(self, **values: Any) -> None:  # noqa: ANN401
        """Fill in what the file leaves out.

        :param **values: of config.json.
        """
        labels = values.get("id2label") or {place: f"LABEL_{place}" for place in range(values.get("num_labels", 2))}
        super().__init__(**{**DEFAULTS, **values, "id2label": {int(place): name for place, name in labels.items()}})

    def to_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return dict(vars(self))


def weight_shapes(config: BloomConfiguration, head: bool) -> dict[str, tuple[int, ...]]:
    """Return the name and the shape of every weight of a body, and of its head.

    :param config: of the checkpoint.
    :param head: whether there is one.
    :returns: shapes by name.
    """
    width, inner = config.hidden_size, 4 * config.hidden_size
    norms, linears = ["word_embeddings_layernorm", "ln_f"], {}
    for place in range(config.n_layer):
        norms += [f"h.{place}.input_layernorm", f"h.{place}.post_attention_layernorm"]
        linears[f"h.{place}.self_attention.query_key_value"] = (3 * width, width)
        linears[f"h.{place}.self_attention.dense"] = (width, width)
        linears[f"h.{place}.mlp.dense_h_to_4h"] = (inner, width)
        linears[f"h.{place}.mlp.dense_4h_to_h"] = (width, inner)
    shapes: dict[str, tuple[int, ...]] = {"word_embeddings.weight": (config.vocab_size, width)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {**shapes, **({HEAD: (len(config.id2label), width)} if head else {})}


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    """Return a plain linear layer around weights; its own `__init__` would fill others first, and import half of torch.

    :param weight: (out, in).
    :param bias: (out,).
    :returns: a layer without gradients.
    """
    layer = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(layer)
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
    return layer


def _linear(tensors: Tensors, name: str) -> nn.Linear:
    return linear_of(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _norm(config: BloomConfiguration, tensors: Tensors, name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon, elementwise_affine=False)
    layer.elementwise_affine = True
    layer.weight = nn.Parameter(tensors[f"{name}.weight"], requires_grad=False)
    layer.bias = nn.Parameter(tensors[f"{name}.bias"], requires_grad=False)
    return layer


class BloomAttention(nn.Module):
    """The two projections around attention."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.query_key_value = _linear(tensors, f"{name}.query_key_value")
        self.dense = _linear(tensors, f"{name}.dense")


class BloomFeedForward(nn.Module):
    """The two projections around GELU."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.dense_h_to_4h = _linear(tensors, f"{name}.dense_h_to_4h")
        self.dense_4h_to_h = _linear(tensors, f"{name}.dense_4h_to_h")


class BloomLayer(nn.Module):
    """One of the layers that Bloom is a stack of."""

    gradient_checkpointing = False

    def __init__(self, config: BloomConfiguration, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.num_heads = config.n_head
        self.apply_residual_connection_post_layernorm = config.apply_residual_connection_post_layernorm
        self.input_layernorm = _norm(config, tensors, f"{name}.input_layernorm")
        self.self_attention = BloomAttention(tensors, f"{name}.self_attention")
        self.post_attention_layernorm = _norm(config, tensors, f"{name}.post_attention_layernorm")
        self.mlp = BloomFeedForward(tensors, f"{name}.mlp")


class BloomBody(nn.Module):
    """Tokens to hidden states: a retriever, or what stands under a ranker's head."""

    def __init__(self, config: BloomConfiguration, tensors: Tensors) -> None:
        """Wrap weights.

        :param config: of the checkpoint.
        :param tensors: every weight that `weight_shapes` names.
        """
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding.from_pretrained(tensors["word_embeddings.weight"])
        self.word_embeddings_layernorm = _norm(config, tensors, "word_embeddings_layernorm")
        layers = [BloomLayer(config, tensors, f"h.{place}") for place in range(config.n_layer)]
        self.h: Any = nn.ModuleList(layers)  # Any: a list of layers, some parts of which the engine exchanges
        self.ln_f = _norm(config, tensors, "ln_f")

    @property
    def base_model(self) -> "BloomBody":
        """The body itself, as of a ranker."""
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run Hugging Face's `BloomModel` on these layers.

        :param *args: as for that.
        :param **kwargs: as for that.
        :returns: its output.
        """
        from transformers import BloomConfig, BloomModel

        with torch.device("meta"):
            twin = BloomModel(BloomConfig(**self.config.to_dict()))
        _share(self, twin)
        return twin.eval()(*args, **kwargs)


class BloomWithHead(nn.Module):
    """A ranker: a body, and a matrix that reads two logits from its last hidden state."""

    def __init__(self, config: BloomConfiguration, tensors: Tensors) -> None:
        """Wrap weights.

        :param config: of the checkpoint.
        :param tensors: every weight that `weight_shapes` names.
        """
        super().__init__()
        self.config = config
        self.transformer = BloomBody(config, tensors)
        self.score = linear_of(tensors[HEAD])

    @property
    def base_model(self) -> BloomBody:
        """The body."""
        return self.transformer

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run Hugging Face's `BloomForSequenceClassification` on these layers.

        :param *args: as for that.
        :param **kwargs: as for that.
        :returns: its output.
        """
        from transformers import BloomConfig, BloomForSequenceClassification

        with torch.device("meta"):
            twin = BloomForSequenceClassification(BloomConfig(**self.config.to_dict()))
        _share(self.transformer, twin.transformer)
        twin.score = self.score
        return twin.eval()(*args, **kwargs)


def _share(body: BloomBody, twin: Any) -> None:  # noqa: ANN401
    """Put the layers of a body, whatever they are by now, in the places of a twin's."""
    for name in ("word_embeddings", "word_embeddings_layernorm", "ln_f"):
        setattr(twin, name, getattr(body, name))
    for ours, theirs in zip(body.h, twin.h, strict=True):
        for name in ("input_layernorm", "post_attention_layernorm"):
            setattr(theirs, name, getattr(ours, name))
        for name, layer in ours.self_attention.named_children():
            setattr(theirs.self_attention, name, layer)
        if isinstance(ours.mlp, BloomFeedForward):
            for name, layer in ours.mlp.named_children():
                setattr(theirs.mlp, name, layer)
        else:  # a layer that takes the place of all of it
            theirs.mlp = ours.mlp
