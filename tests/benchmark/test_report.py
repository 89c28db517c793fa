"""`report.html` of ranks made by hand: wrong questions only, worst first, words marked; and the page in a browser."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import html

from bloomz_haystack.benchmark.report.html import report_page
from bloomz_haystack.benchmark.report.sheets import table_markdown
from bloomz_haystack.benchmark.report.table import make_table
from bloomz_haystack.benchmark.report.worst_questions import errors_of, worst_questions
from bloomz_haystack.benchmark.run.results_folder import ROWS, KeptRun, Row, RunFacts, keep, read_run

TEXTS = [
    "Un adulte dort sept à neuf heures par nuit.",
    "A newborn sleeps sixteen hours; naps count.",
    "La Loire est le plus long fleuve de France.",
    "The Thames is the longest river in England.",
]
ASKED = [
    ("Combien d'heures dort un adulte ?", 0),
    ("How many hours does a newborn sleep?", 1),
    ("Quel est le plus long fleuve de France ?", 2),
    ("Which river is the longest in England?", 3),
    ("Les siestes d'un nouveau-né comptent-elles ?", 1),
]


def row(name: str, ranks: list[float], first: list[int], **more: Any) -> Row:  # noqa: ANN401
    """A measured row; a tie of fair rank n + 1/2 begins at n."""
    fair, scores = np.array(ranks), np.linspace(0.9, 0.5, len(ranks))
    gold = more.pop("gold_probability", np.full(len(ranks), np.nan))
    none = np.empty(0)
    return Row(
        name,
        f"{name}, in full",
        "measured",
        1.0,
        more,
        fair,
        np.floor(fair).astype(int),
        np.array(first),
        scores,
        gold,
        none,
    )


def kept(*rows: Row) -> KeptRun:
    facts = RunFacts("petit FR/EN", "own", "fr", "en", "retriever", "none left out", len(ASKED), 0, len(TEXTS), 2, {})
    questions = [{"id": str(i), "text": text, "gold": gold, "theme": "nuit"} for i, (text, gold) in enumerate(ASKED)]
    return KeptRun(facts, list(rows), questions, [{"id": str(i), "theme": "", "text": t} for i, t in enumerate(TEXTS)])


WORDS = row("words", [1, 3, 1, 1, 3.5], [0, 3, 2, 3, 0])
MIXED = row(
    "bm25+runs/new > runs/ranker (50)",
    [1, 2, 1, 1, 4],
    [0, 0, 2, 3, 2],
    ranker={},
    gold_probability=np.array([0.9, 0.25, 0.7, 0.6, np.nan]),
)
MIXED_SHORT = "bm25+new > ranker (50)"
ABSENT = replace(row("a/model", [], []), state="not available here: no network")


def test_worst_questions_are_wrong_ones_worst_first() -> None:
    run = kept(WORDS, MIXED)
    wrong = worst_questions(run, MIXED)
    assert [(each.question, each.rank) for each in wrong] == [(ASKED[4][0], 4.0), (ASKED[1][0], 2.0)]
    assert [(each.gold, each.first) for each in wrong] == [(TEXTS[1], TEXTS[2]), (TEXTS[1], TEXTS[0])]
    assert (wrong[1].gold_score, wrong[1].first_score) == (0.25, pytest.approx(0.8))
    assert np.isnan(wrong[0].gold_score)  # no ranker read it
    assert np.isnan(worst_questions(run, WORDS)[0].first_score)  # a similarity is not a score
    assert (errors_of(run, MIXED, count=1).total, len(worst_questions(run, MIXED, count=1))) == (2, 1)


def test_a_tie_is_wrong_only_where_it_counts_as_one_and_another_passage_stands_first() -> None:
    tied = row("tied", [1.5, 1.5, 1, 1, 1], [0, 3, 2, 3, 1])
    assert [each.question for each in worst_questions(kept(tied), tied)] == [ASKED[1][0]]
    assert worst_questions(kept(tied), tied, "optimistic") == []


def test_the_page_shows_short_names_full_names_and_what_was_wrong() -> None:
    run = kept(WORDS, MIXED, ABSENT)
    page = html.fromstring(report_page(run, make_table(run)))
    figures, intervals = page.findall(".//table")
    assert [th.text for th in figures.iterfind(".//tbody//th[@scope='row']")] == ["words", MIXED_SHORT, "model"]
    assert [dd.text for dd in page.iterfind(".//dl/dd")] == [
        "words, in full",
        "bm25+runs/new > runs/ranker (50), in full",
        "a/model, in full (not available here: no network)",
    ]
    for table, caption in ((figures, "Where the right passage stands"), (intervals, "95 % intervals")):
        assert table.findtext("caption") == caption
        heads = table.findall("thead/tr/th[@scope='col']")
        assert {len(line) for line in table.iterfind("tbody/tr")} == {len(heads)}
    assert [line[1].text for line in figures.iterfind("tbody/tr")] == ["1.9", "1.8", "–"]  # Top-mean
    first, second = page.findall(".//ol/li")
    assert [item.findtext("h3") for item in (first, second)] == [ASKED[4][0], ASKED[1][0]]
    assert second.findtext(".//strong") == "Right passage at rank 2"
    assert [head.text for head in second.iterfind(".//h4")] == ["Right passage, score 0.25", "Ranked first, score 0.80"]
    assert [(mark.text, mark.get("class")) for mark in second.iterfind(".//mark")] == [
        ("newborn", "only"),
        ("sleeps", "only"),
        ("hours", "only"),
    ]
    assert "2 of 5 questions have another passage first." in page.text_content()


def test_no_error_is_said_and_markdown_keeps_full_names() -> None:
    run = kept(row("perfect", [1, 1, 1, 1, 1], [0, 1, 2, 3, 1]))
    table = make_table(run)
    assert "None is wrong: the right passage stands first for all 5 questions." in report_page(run, table)
    assert "| perfect, in full | 1.0 | 0.0 | 100.0 |" in table_markdown(table)


def test_rows_come_back_in_the_order_they_were_finished_in_a_copy_too(tmp_path: Path) -> None:
    (tmp_path / ROWS).mkdir()
    for file, value in (("run.json", json.dumps(vars(kept().facts))), ("questions.jsonl", ""), ("passages.jsonl", "")):
        (tmp_path / file).write_text(value)
    for name in ("z", "a", "m"):
        keep(tmp_path, row(name, [1], [0]))
    for place, name in enumerate(("a", "m", "z")):  # as a clone or a copy may date them
        os.utime(tmp_path / ROWS / f"{name}.json", (place, place))
    assert [each.name for each in read_run(tmp_path).rows] == ["z", "a", "m"]


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium without a window; pages of any width, light or dark."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    if not shutil.which("chromedriver"):
        pytest.skip("chromedriver is not installed")
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as driver:
        yield driver


@pytest.mark.slow
def test_in_a_browser_it_fits_sorts_and_turns_dark(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    run = kept(WORDS, MIXED, ABSENT)
    (tmp_path / "report.html").write_text(report_page(run, make_table(run)), encoding="utf-8")
    papers = {}
    for width, mode in ((400, "light"), (1200, "dark"), (1700, "light")):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        browser.get((tmp_path / "report.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        region = "return [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
        assert (max(browser.execute_script(region)) == 0) == (width > 400)  # a narrow screen scrolls the table alone
        papers[mode] = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert papers == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 26, 25)"}
    names = "return [...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[0].textContent)"
    mrr = browser.find_element("xpath", "(//table)[1]//button[.='MRR']")
    for order, first_two in (("descending", [MIXED_SHORT, "words"]), ("ascending", ["words", MIXED_SHORT])):
        mrr.click()
        assert mrr.find_element("xpath", "..").get_attribute("aria-sort") == order
        assert browser.execute_script(names) == [*first_two, "model"]  # not measured: last either way
