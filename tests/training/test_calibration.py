"""Calibration of a ranker: known scales found again, written into the weights, ranks left alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoConfig, BloomConfig, BloomForSequenceClassification

from bloomz_haystack.benchmark.figures.abstention import expected_calibration_error
from bloomz_haystack.training.config import load_config
from bloomz_haystack.training.objectives.calibration import CALIBRATED_THRESHOLD, KEYS, calibrated, platt_scaling
from bloomz_haystack.training.train import train_ranker
from haystack_integrations.common.bloomz.checkpoint import BUNDLED_FOLDER, BUNDLED_RANKER

SCALE, SHIFT = 0.3, 1.2


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Turn log-odds into probabilities."""
    return 1 / (1 + np.exp(-log_odds))


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log-odds of a ranker whose true log-odds are `SCALE` times its own, plus `SHIFT`."""
    rng = np.random.default_rng(0)
    odds = rng.normal(-1.0, 4.0, size=count).astype(np.float32)
    return odds, rng.random(count) < sigmoid(SCALE * odds + SHIFT)


def test_the_scale_and_shift_of_drawn_labels_are_found_again() -> None:
    odds, right = drawn(20_000)
    scale, shift = platt_scaling(odds, right)
    assert scale == pytest.approx(SCALE, abs=0.02)
    assert shift == pytest.approx(SHIFT, abs=0.05)
    fresh, happened = (values[10_000:] for values in drawn(30_000))
    assert expected_calibration_error(sigmoid(fresh), happened) > 0.2  # negative control: as they were
    assert expected_calibration_error(sigmoid(scale * fresh + shift), happened) < 0.02


def test_a_perfect_ranker_keeps_a_finite_scale_and_one_that_is_wrong_is_left_alone() -> None:
    odds = np.linspace(-3, 3, 50, dtype=np.float32)
    assert 1.0 < platt_scaling(odds, odds > 0)[0] < 20.0
    untouched = (1.0, 0.0)
    assert platt_scaling(odds, odds < 0) == untouched
    assert platt_scaling(odds, np.ones(50, dtype=bool)) == platt_scaling(odds, np.zeros(50, dtype=bool)) == untouched
    assert platt_scaling(odds, np.arange(50) % 2 == 0) == untouched  # nothing to learn from


def test_the_weights_give_the_calibrated_log_odds_and_come_back_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = BloomForSequenceClassification(
        BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2, num_labels=2, pad_token_id=3)
    ).eval()
    ids = torch.randint(4, 50, (8, 12))

    def log_odds() -> torch.Tensor:
        with torch.no_grad():
            logits = model(ids).logits
        return logits[:, 1] - logits[:, 0]

    before, weights = log_odds(), {name: weight.clone() for name, weight in model.state_dict().items()}
    with calibrated(model, dict(zip(KEYS, (SCALE, SHIFT), strict=True))):
        assert torch.allclose(log_odds(), SCALE * before + SHIFT, atol=1e-5)
        assert torch.equal(log_odds().argsort(), before.argsort())
        assert model.config.score_threshold == CALIBRATED_THRESHOLD
    assert not hasattr(model.config, "score_threshold")
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    for figures in ({"validation_mrr": 1.0}, dict(zip(KEYS, (1.0, 0.0), strict=True))):
        with calibrated(model, figures):
            assert torch.equal(log_odds(), before)
            assert not hasattr(model.config, "score_threshold")


def test_a_run_that_calibrates_saves_the_same_ranker_with_other_odds(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(60)]
    rng = np.random.default_rng(1)
    rows = []
    for number in range(60):
        sides = [" ".join(rng.choice(words, size=6)) for _ in range(3)]
        # Every other question asks for what is nowhere: low odds, and seldom right.
        question = " ".join(sides[0].split()[:2]) if number % 2 else "zebra quartz"
        negatives = [{"english": text, "score": 0.1} for text in sides[1:]]
        rows.append(
            {"id": number, "query": {"english": question}, "positive": {"english": sides[0]}, "negatives": negatives}
        )
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def trained(name: str, **run: object) -> dict[str, torch.Tensor]:
        settings = {
            "data": {"sources": [{"path": "rows.jsonl"}], "validation": [{"path": "rows.jsonl"}], "max_length": 40},
            "model": {"base": "tiny-fr-en-ranker"},
            "run": {"steps": 1, "batch_size": 8, "tensorboard": False, **run},
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(settings), encoding="utf-8")
        train_ranker(tmp_path / f"{name}.yaml", tmp_path / name)
        return safetensors.torch.load_file(tmp_path / name / "model.safetensors")

    plain, scaled = trained("plain"), trained("scaled", calibration="fit")
    given = trained("given", calibration=[0.5, -0.25], score_prior=1.5, score_share=True)
    assert torch.allclose(given["score.weight"].double(), 0.5 * plain["score.weight"].double(), rtol=2e-3, atol=1e-6)
    names = ("plain", "scaled", "given")
    configs = {name: json.loads((tmp_path / name / "config.json").read_text()) for name in names}
    assert [configs[name].get("score_threshold") for name in names] == [None, 0.5, 0.5]
    assert (configs["given"]["score_prior"], configs["given"]["score_share"]) == (1.5, True)
    assert configs["plain"]["score_prior"] == AutoConfig.from_pretrained(BUNDLED_FOLDER / BUNDLED_RANKER).score_prior
    found = json.loads((tmp_path / "scaled" / "training.json").read_text(encoding="utf-8"))["validation"]
    scale, shift = (found[key] for key in KEYS)
    assert 0.0 < scale != 1.0
    changed = {name for name in plain if not torch.equal(plain[name], scaled[name])}
    assert changed == {"score.weight", "transformer.ln_f.bias"}
    heads, biases = ([each[name].double() for each in (plain, scaled)] for name in sorted(changed))
    assert torch.allclose(heads[1], scale * heads[0], rtol=2e-3, atol=1e-6)
    moved = float((biases[1] - biases[0]) @ (heads[1][1] - heads[1][0]))
    assert moved == pytest.approx(shift, rel=0.02)
    card = (tmp_path / "scaled" / "README.md").read_text(encoding="utf-8")
    assert "the recommended threshold is 0.5" in card
    assert f"| calibration scale | {scale:.4f} |" in card


@pytest.mark.parametrize("given", [[0.5], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0, 0.0]])
def test_a_calibration_that_is_none_is_refused(tmp_path: Path, given: list[float]) -> None:
    (tmp_path / "rows.jsonl").write_text("{}", encoding="utf-8")
    settings = {"data": {"sources": ["rows.jsonl"]}, "model": {"base": "b"}, "run": {"calibration": given}}
    (tmp_path / "r.yaml").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.calibration must be fit, or a scale > 0 and a shift, but got"):
        load_config(tmp_path / "r.yaml")
