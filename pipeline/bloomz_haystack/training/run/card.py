"""Record of a run -> model card: what it was made from, how, what it reaches and where it ends."""

from typing import Any

import yaml
from transformers import PreTrainedModel

from bloomz_haystack.training.run.calibration import KEYS

USE = {
    "retriever": """The vector of a text is the final hidden state of its last token; distance is cosine; no prefix, the
same model for questions and passages.

    from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
    BloomzTextEmbedder(model="{name}").run("Où ? Where?")["embedding"]""",
    "ranker": """A pair is (text=CONTEXT, text_pair=QUESTION), the context first; the score is the softmax probability
of `LABEL_1`.

    from haystack_integrations.components.rankers.bloomz import BloomzRanker
    BloomzRanker(model="{name}").run(query="Où ? Where?", documents=documents)["documents"]""",
}
TASKS = {"retriever": "feature-extraction", "ranker": "text-classification"}


def model_card(record: dict[str, Any], model: PreTrainedModel, name: str) -> str:
    """Write the card.

    :param record: of the run, from ``run_record``, with ``steps_done`` and ``validation``.
    :param model: of the shape that was trained.
    :param name: of the folder.
    :returns: Markdown with the Hub's front matter.
    """
    settings, kind = record["settings"], record["kind"]
    base = settings["model"]["base"]
    front: dict[str, Any] = {"language": ["fr", "en"], "library_name": "transformers", "pipeline_tag": TASKS[kind]}
    if base:
        front["base_model"] = base
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        f"A Bloom {kind} for French and English, trained with `bloomz-haystack` {_origin(base)}: {_shape(model)}.",
        USE[kind].format(name=name),
        "## Training",
        _command(kind),
        f"{_recipe(kind, settings)} This is the best of the checkpoints measured, after {record['steps_done']} of "
        f"{settings['run']['steps']} steps of {settings['run']['batch_size']}. Every setting, the SHA-256 of the data "
        "and the commit of the code are in `training.json`.",
        _data_table(record["data"]),
        "## Validation",
        _validation(record["validation"], settings["data"]["validation"]),
        "## Limits",
        "Trained on French and English only, on text like that of the data above; other text than that of the numbers "
        "may give less. Not checked for social bias. The licence of the base and of "
        "each source applies; where the table says nothing, ask whoever trained it.",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(base: str | None) -> str:
    return f"from `{base}`" if base else "from nothing"


def _shape(model: PreTrainedModel) -> str:
    config = model.config
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    return (
        f"`{type(model).__name__}`, n_layer {config.n_layer}, hidden_size {config.hidden_size}, n_head "
        f"{config.n_head}, {config.vocab_size:,} tokens, {millions:,.1f} million parameters"
    )


def _command(kind: str) -> str:
    return (
        f"    bloomz train {kind} --config training.json --out again\n\n"
        "with the `training.json` of this folder and the data (and base, if a folder) beside it; or, where there is no "
        f"command line, `python -m bloomz_haystack.training.train {kind}` with the same options, and under `accelerate "
        "launch -m` on several GPUs."
    )


def _recipe(kind: str, settings: dict[str, Any]) -> str:
    data, loss = settings["data"], settings["loss"]
    languages = "by given weights" if data["language_pairs"] else "uniformly"
    if kind == "retriever":
        told = (
            f"InfoNCE on cosine with a learnt temperature{', both directions' if loss['symmetric'] else ''}: each "
            f"question against its passage, its {data['negatives']} hardest negatives scored under "
            f"{data['false_negative']:g} where the data has any, and the passages of the other questions"
        )
    elif loss["grid"]:
        told = (
            f"List-wise cross-entropy, and cross-entropy on two labels: the questions of {loss['grid']} neighbouring "
            f"rows, each scored against the passages of all of them; neighbours are drawn from a row's negatives"
        )
    else:
        told = (
            f"Cross-entropy on two labels, {loss['negatives_per_positive']} hard negatives to a positive, drawn from "
            f"the {data['negatives']} hardest of the row"
        )
    return f"{told}; the language of each side drawn {languages}."


def _data_table(data: list[dict[str, Any]]) -> str:
    rows = [
        f"| {source['path']} | {source['rows']:,} | {source['held_out']:,} | {source['weight']:g} | "
        f"{source['licence'] or 'not stated'} |"
        for source in data
    ]
    return "\n".join(["| data | rows | held out | weight | licence |", "| --- | --- | --- | --- | --- |", *rows])


def _validation(figures: dict[str, float], given: list[dict[str, Any]]) -> str:
    if not figures:
        return "No row was held out: nothing was measured."
    rows_of = ", ".join(f"`{source['path']}`" for source in given) or "the same data, held out"
    rows = [f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in figures.items()]
    told = f"On rows of {rows_of}, the right passage ranked among the others (MRR, Top-1: 0 to 1, higher is better)."
    if KEYS[0] in figures:
        told += (
            " The log-odds were multiplied by the scale, the shift added, both fitted on the passages ranked first: "
            "the probability of such a passage tells how often it answers."
        )
    return "\n".join([f"{told}\n", "| figure | value |", "| --- | --- |", *rows])
