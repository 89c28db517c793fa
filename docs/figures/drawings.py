"""The figures of the documentation, in light and in dark: `python docs/figures/drawings.py [FOLDER]`.

Each is drawn from what the code computes: token counts, ALiBi slopes, a hybrid search over the example files. The
calibration comes from `calibration.csv`, which `calibration.py` counts in rows of `bloomz benchmark quality`.
"""

import csv
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from bloomz_haystack.benchmark.report.plots import new_figure
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.settings import TINY_RETRIEVER, IndexSettings
from haystack_integrations.common.bloomz.attention import alibi_slopes
from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeHybridRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "pipeline/bloomz_haystack/examples"
# Of the text, of a first and of a second thing, of what is not used.
SCHEMES = {
    "light": {"ink": "#212121", "one": "#00897b", "two": "#ef6c00", "pale": "#cfd8dc"},
    "dark": {"ink": "#e0e0e0", "one": "#4db6ac", "two": "#ffb74d", "pale": "#546e7a"},
}
STEPS = (
    ("question", "1 text"),
    ("retriever", "1 unit vector"),
    ("store", "50 nearest of all\npassages, by vectors\nand by words"),
    ("ranker", "50 probabilities"),
    ("sentence reader", "5 passages, in each\nthe sentence\nthat answers"),
)
QUESTIONS = ("Quel jour Armstrong a-t-il marché sur la Lune ?", "Combien de jours pour déclarer une fuite ?")

Colours = dict[str, str]


def steps_figure(colours: Colours) -> Figure:
    """Draw the way from a question to an answer: boxes, and below each what it gives."""
    figure = new_figure(1.9)
    axes = figure.subplots()
    for place, (name, gives) in enumerate(STEPS):
        box = FancyBboxPatch((place, 0.55), 0.72, 0.3, boxstyle="round,pad=0.02", fc="none", ec=colours["one"], lw=1.5)
        axes.add_patch(box)
        axes.text(place + 0.36, 0.7, name, ha="center", va="center", weight="bold")
        axes.text(place + 0.36, 0.42, gives, ha="center", va="top", fontsize="small")
        if place:
            axes.annotate(
                "", (place - 0.04, 0.7), (place - 0.22, 0.7), arrowprops={"arrowstyle": "->", "color": colours["ink"]}
            )
    axes.set(xlim=(-0.05, len(STEPS) - 0.2), ylim=(0, 0.95))
    axes.axis("off")
    return figure


def packing_figure(colours: Colours) -> Figure:
    """Draw the example passages in two batches of 16: padded to the longest, and packed end to end."""
    embedder = BloomzTextEmbedder(TINY_RETRIEVER, progress_bar=False)
    counts = embedder.token_counts([text for path in sorted(EXAMPLES.iterdir()) for text in _texts(path)])[:16]
    figure = new_figure(2.9)
    padded, packed = figure.subplots(1, 2)
    longest = max(counts)
    padded.barh(range(len(counts)), longest, color=colours["pale"], height=0.8)
    padded.barh(range(len(counts)), counts, color=colours["one"], height=0.8)
    padded.set(title=f"padded: {longest * len(counts):,} tokens computed", xlabel="tokens", yticks=[])
    starts, row, rows = 0, 0, -(-sum(counts) // longest)
    for place, count in enumerate(counts):
        colour = colours["one"] if place % 2 else colours["two"]
        while count:
            part = min(count, longest - starts)
            packed.barh(row, part, left=starts, color=colour, height=0.8)
            count, starts = count - part, (starts + part) % longest
            row += starts == 0
    packed.set(title=f"packed: {sum(counts):,} tokens computed", xlabel="tokens", yticks=[])
    packed.set(ylim=(len(counts) - 0.4, -0.6), xlim=padded.get_xlim())
    padded.invert_yaxis()
    assert row <= rows
    return figure


def _texts(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def alibi_figure(colours: Colours) -> Figure:
    """Draw what ALiBi adds to the scores as its paper does, as one feature does, and the weights after softmax."""
    tokens, slope = 8, float(alibi_slopes(4, torch.device("cpu"))[0])
    position = np.arange(tokens)
    seen = np.tril(np.ones((tokens, tokens), bool))
    scores = np.random.default_rng(0).normal(size=(tokens, tokens))
    relative, feature = slope * (position[None] - position[:, None]), slope * np.broadcast_to(position, seen.shape)
    weights = [_softmax(np.where(seen, scores + bias, -np.inf)) for bias in (relative, feature)]
    assert np.allclose(*weights)
    figure = new_figure(3.5)
    for axes, values, title in zip(
        figure.subplots(1, 3),
        (relative, feature, weights[0]),
        ("bias by distance", "one more feature: position", "attention: the same"),
        strict=True,
    ):
        axes.imshow(np.where(seen, values, np.nan), cmap="viridis")
        axes.set(title=title, xticks=[], yticks=[], xlabel="key", ylabel="query")
    return figure


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponentials = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


def cache_figure(colours: Colours) -> Figure:
    """Draw which attention is computed once for a passage, and which for each question."""
    passage, question = 12, 4
    figure = new_figure(3.2, 6.5)
    axes = figure.subplots()
    for row in range(passage + question):
        colour = colours["one"] if row < passage else colours["two"]
        for column in range(row + 1):
            axes.add_patch(FancyBboxPatch((column, row), 0.8, 0.8, boxstyle="square,pad=0", fc=colour, ec="none"))
    axes.set(xlim=(-0.2, 16), ylim=(16.2, -0.2), aspect="equal", xticks=[6, 14], yticks=[6, 14])
    axes.set_xticklabels(["passage", "question"])
    axes.set_yticklabels(["passage", "question"])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    names = (("one", "once for a passage: kept"), ("two", "for each question"))
    axes.legend(
        handles=[Patch(color=colours[colour], label=name) for colour, name in names], loc="upper right", frameon=False
    )
    return figure


def fusion_figure(colours: Colours) -> Figure:
    """Draw the first five of a hybrid search for two questions: what vectors and words contribute."""
    figure = new_figure(4.2)
    with tempfile.TemporaryDirectory() as folder:
        index_files([EXAMPLES], folder, IndexSettings(hybrid=True))
        store = QdrantEdgeDocumentStore(folder, embedding_dim=576, hybrid=True)
        for axes, question in zip(figure.subplots(2, 1, sharex=True), QUESTIONS, strict=True):
            _draw_fused(axes, question, store, colours)
        store.close()
    axes.set_xlabel("fused score = 0.6 x vectors + 0.4 x words")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _draw_fused(axes: Axes, question: str, store: QdrantEdgeDocumentStore, colours: Colours) -> None:
    vector = BloomzTextEmbedder(TINY_RETRIEVER, progress_bar=False).run(question)["embedding"]

    def found(weights: list[float] | None) -> dict[str, float]:
        hits = QdrantEdgeHybridRetriever(store, top_k=32, weights=weights).run(question, vector)["documents"]
        return {hit.meta.get("title", hit.meta["file_path"]): hit.score or 0.0 for hit in hits}

    near, fused = found([1, 0]), list(found(None).items())[:5]
    names = [name for name, _ in fused]
    parts = np.array([0.6 * near.get(name, 0.0) for name in names])
    axes.barh(names, parts, color=colours["one"], label="vectors")
    axes.barh(names, [score for _, score in fused] - parts, left=parts, color=colours["two"], label="words (BM25)")
    axes.set_title(question, loc="left")
    axes.invert_yaxis()


def calibration_figure(colours: Colours) -> Figure:
    """Draw how often the first passage answers, by the probability it was given; a dot's area is its questions."""
    figure = new_figure(3.8, 5.5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=colours["pale"], lw=1)
    rows = list(csv.DictReader((HERE / "calibration.csv").read_text(encoding="utf-8").splitlines()))
    for colour, name in zip(("one", "two"), dict.fromkeys(row["set"] for row in rows), strict=True):
        promised, happened, questions = (
            np.array([float(row[key]) for row in rows if row["set"] == name])
            for key in ("promised", "happened", "questions")
        )
        axes.plot(promised, happened, color=colours[colour], label=name)
        axes.scatter(promised, happened, 300 * questions / questions.sum(), color=colours[colour])
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the first passage", ylabel="share that answers")
    axes.legend(loc="upper left", frameon=False)
    return figure


FIGURES: dict[str, Callable[[Colours], Figure]] = {
    "steps": steps_figure,
    "packing": packing_figure,
    "alibi": alibi_figure,
    "prefix-cache": cache_figure,
    "fusion": fusion_figure,
    "calibration": calibration_figure,
}


def draw(folder: Path) -> None:
    """Write each figure twice: NAME-light.svg and NAME-dark.svg.

    :param folder: to write to.
    """
    for scheme, colours in SCHEMES.items():
        ink = dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), colours["ink"]
        )
        # Text stays text: small files, and a reader can search and copy it.
        style: dict[str, Any] = {
            **ink,
            "svg.fonttype": "none",
            "svg.hashsalt": "bloomz",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
        }
        for name, figure in FIGURES.items():
            with rc_context(style):
                drawn = figure(colours)
                drawn.savefig(folder / f"{name}-{scheme}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else HERE)
