"""Record of a run -> model card: what the model was made from, how, what it reaches, and its limits."""

from typing import Any

import yaml
from transformers import PreTrainedModel

from bloomz_haystack.files.markdown import markdown_table
from bloomz_haystack.training.objectives.calibration import CALIBRATED_THRESHOLD, KEYS

USE = {
    "retriever": """The vector of a text is the final hidden state of its last token; distance is cosine; no prefix, the
same model for questions and passages.

    from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
    BloomzTextEmbedder(model="{name}").run("Où ? Where?")["embedding"]""",
    "ranker": """A pair is (text=PASSAGE, text_pair=QUESTION), the passage first; the score is the softmax probability
of `LABEL_1`.

    from haystack_integrations.components.rankers.bloomz import BloomzRanker
    BloomzRanker(model="{name}").run(query="Où ? Where?", documents=documents)["documents"]""",
}
TASKS = {"retriever": "feature-extraction", "ranker": "text-classification"}


def model_card(record: dict[str, Any], model: PreTrainedModel, name: str) -> str:
    """Return the model card of a run.

    :param record: of the run, from `run_record`, with `steps_done` and `validation`.
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
        f"{_recipe(kind, settings)} This is the best checkpoint measured, after {record['steps_done']} of "
        f"{settings['run']['steps']} steps with a batch of {settings['run']['batch_size']}. Every setting, the SHA-256 "
        "of the data and the commit of the code are in `training.json`.",
        _data_table(record["data"]),
        "## Validation",
        _validation(record["validation"], settings["data"]["validation"]),
        "## Limits",
        "Trained on French and English only, on text like that of the data above; quality on other text may be lower. "
        "Not checked for social bias. The licences of the base and of each source apply; where none is stated, ask "
        "whoever trained the model.",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(base: str | None) -> str:
    return f"from `{base}`" if base else "from scratch"


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
        "with the `training.json` of this folder and the data (and the base, if it is a folder) beside it. Without the "
        f"command line: `python -m bloomz_haystack.training.train {kind}` with the same options; on several GPUs, "
        "under `accelerate launch -m`."
    )


def _recipe(kind: str, settings: dict[str, Any]) -> str:
    data, loss = settings["data"], settings["loss"]
    languages = "by given weights" if data["language_pairs"] else "uniformly"
    if kind == "retriever":
        text = (
            f"InfoNCE on cosine with a learned temperature{', both directions' if loss['symmetric'] else ''}: each "
            f"question against its passage, its {data['negatives']} hardest negatives scored under "
            f"{data['false_negative']:g} where the data has any, and the passages of the other questions"
        )
    elif loss["grid"]:
        text = (
            f"Listwise cross-entropy and cross-entropy on two labels: the questions of {loss['grid']} neighbouring "
            f"rows, each scored against the passages of all of them; neighbours are drawn from a row's negatives"
        )
    else:
        text = (
            f"Cross-entropy on two labels, {loss['negatives_per_positive']} hard negatives per positive, drawn from "
            f"the {data['negatives']} hardest of the row"
        )
    return f"{text}; the language of each side is drawn {languages}."


def _data_table(data: list[dict[str, Any]]) -> str:
    rows = [
        [
            source["path"],
            f"{source['rows']:,}",
            f"{source['held_out']:,}",
            f"{source['weight']:g}",
            source["licence"] or "not stated",
        ]
        for source in data
    ]
    return markdown_table(["data", "rows", "held out", "weight", "licence"], rows)


def _validation(figures: dict[str, float], given: list[dict[str, Any]]) -> str:
    if not figures:
        return "No row was held out: nothing was measured."
    rows_of = ", ".join(f"`{source['path']}`" for source in given) or "the same data, held out"
    rows = [[name.replace("_", " "), f"{value:.4f}"] for name, value in figures.items()]
    text = f"On rows of {rows_of}, the right passage ranked among the others (MRR, Top-1: 0 to 1, higher is better)."
    if KEYS[0] in figures:
        text += (
            " The log-odds are calibrated by the scale and shift below, so that the score of the passage ranked first "
            f"is the probability that it answers; the recommended threshold is {CALIBRATED_THRESHOLD:g}."
        )
    return f"{text}\n\n{markdown_table(['figure', 'value'], rows)}"
