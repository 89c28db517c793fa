"""The page in a real browser, against a real service: Chromium by selenium. Skipped where there is no Chromium."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.settings import IndexSettings

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"),
]
FRENCH_QUESTION = "Combien d'heures de sommeil faut-il à un adulte ?"
ENGLISH_QUESTION = "How many hours of sleep does an adult need?"
ENGLISH_ANSWER = "An adult needs seven to nine hours of sleep a night."
Serve = Callable[..., httpx.Client]  # a store, else one of sleep.txt and sommeil.txt; settings by name -> a service
TOKEN = "s3cret"
SECONDS = 600  # an end for what hangs, also on a slow machine
HOSTILE = "<img src=x onerror=alert(1)>"


class Page:
    """The page in a tab of its own, and what a person does with it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str, *, language: str = "en", width: int = 1000, scheme: str = "light") -> "Page":
        """Open it as a person with a language, a window width and a colour scheme."""
        send = self.driver.execute_cdp_cmd
        agent = self.driver.execute_script("return navigator.userAgent")
        send("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        send("Emulation.setDeviceMetricsOverride", size)
        send("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get(address)
        return self

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.until(lambda: next((found for found in self.all(selector) if found.is_displayed()), None))

    def texts(self, selector: str) -> list[str]:
        """Return what is to be read of each element."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)", selector
        )

    def until(self, condition: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the condition returns
        """Return the first truth that a condition gives; an element may go while it is looked at."""
        wait = WebDriverWait(self.driver, SECONDS, 0.02, ignored_exceptions=[StaleElementReferenceException])
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:
            pytest.fail(f"waited in vain; the page says: {self.texts('body')}")

    def ask(self, question: str) -> list[WebElement]:
        """Ask a question and return the passages."""
        self.one("#question").clear()
        self.one("#question").send_keys(question, Keys.ENTER)
        return self.until(lambda: self.all(".passage"))

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def script(self, source: str, *arguments: object) -> Any:  # noqa: ANN401  # any JSON
        return self.driver.execute_script(source, *arguments)

    def complaints(self) -> list[str]:
        """Return what the browser's console holds against the page."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = Chrome(options=options, service=Service(DRIVER))
    yield opened
    opened.quit()


@pytest.fixture
def page(driver: Chrome) -> Iterator[Page]:
    before = driver.current_window_handle
    driver.switch_to.new_window("tab")  # its sessionStorage is empty
    driver.get_log("browser")
    yield Page(driver)
    driver.execute_script("localStorage.clear()")
    driver.close()
    driver.switch_to.window(before)


def address(service: httpx.Client) -> str:
    return str(service.base_url)


def named_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def add(page: Page, *paths: Path) -> list[str]:
    """Add files, wait until they are indexed, and return what is said of each."""
    page.one("#add")
    page.driver.find_element(By.ID, "file-field").send_keys("\n".join(map(str, paths)))
    page.until(lambda: page.all(".progress-head strong"))
    page.until(lambda: all(name in page.texts(".files .file-name") for name in page.texts(".progress-done .file-name")))
    return page.texts(".progress-list .file-detail")


def test_a_french_question_finds_an_english_sentence(page: Page, served: httpx.Client) -> None:
    page.open(address(served), language="fr-FR")
    assert page.one("h1").text == "Interrogez vos documents"
    cards = page.ask(FRENCH_QUESTION)
    reply = served.post("/v1/search", json={"query": FRENCH_QUESTION}).json()["passages"]
    assert page.texts(".score > span:last-child") == [f"{100 * passage['score']:.0f}\xa0%" for passage in reply]
    bars = [float(bar.get_attribute("aria-valuenow") or "nan") for bar in page.all("[role=meter]")]
    assert bars == pytest.approx([100 * passage["score"] for passage in reply], abs=0.5)
    english = next(card for card in cards if ENGLISH_ANSWER in card.text)
    assert english.find_element(By.TAG_NAME, "h3").text == "sleep.txt"
    assert english.find_element(By.TAG_NAME, "mark").text == ENGLISH_ANSWER
    assert page.one("#summary").text.startswith(f"{len(reply)} passages en 0,")
    assert page.complaints() == []


def test_the_language_can_be_switched(page: Page, served: httpx.Client) -> None:
    page.open(address(served), language="de-DE")
    assert page.script("return document.documentElement.lang") == "en"
    page.one("[data-language=fr]").click()
    page.ask(ENGLISH_QUESTION)
    page.open(address(served), language="de-DE")
    assert page.one("#ask-button").text == "Chercher"
    assert page.one("[data-language=fr]").get_attribute("aria-pressed") == "true"


def test_an_example_is_asked_and_kept_in_the_address(page: Page, served: httpx.Client) -> None:
    page.open(address(served))
    example = page.one("#example-list button[lang=fr]")
    question = example.text
    example.click()
    page.until(lambda: page.all(".passage"))
    assert page.one("#question").get_attribute("value") == question
    assert page.all("#examples")[0].is_displayed() is False
    page.driver.refresh()
    page.until(lambda: page.all(".passage"))
    assert page.one("#question").get_attribute("value") == question
    page.driver.back()
    page.until(lambda: page.one("#examples"))
    assert page.all(".passage") == []


def test_files_language_and_number_narrow_the_search(page: Page, served: httpx.Client) -> None:
    page.open(address(served))
    page.ask(ENGLISH_QUESTION)
    page.one("[data-passage] .source").click()
    page.until(lambda: len(page.all(".passage")) == 1)
    only = page.one(".chip.chosen").text
    assert page.texts(".passage h3") == [only]
    page.one("#only-in .quiet").click()
    page.until(lambda: len(page.all(".passage")) == 5)
    page.one("#options summary").click()
    page.one("#top-k").send_keys(Keys.CONTROL, "a", Keys.NULL, "2", Keys.TAB)
    page.until(lambda: len(page.all(".passage")) == 2)
    page.one("#passage-language option[value=fr]").click()
    page.until(lambda: page.texts(".passage .tag") == ["French", "French"])


def test_nothing_above_the_threshold_and_then_the_nearest(page: Page, served: httpx.Client) -> None:
    page.open(address(served))
    page.one("#options summary").click()
    page.one("#threshold option[value=least]").click()
    page.script("document.querySelector('#least').value = 100")
    page.one("#question").send_keys("Who won the cup in 1954?", Keys.ENTER)
    assert page.until(lambda: page.texts("#message h2")) == ["No passage reaches 100%"]
    page.one("#message button").click()
    assert len(page.until(lambda: page.all(".passage"))) == 5


def test_files_are_added_asked_and_deleted(page: Page, serve: Serve, tmp_path: Path) -> None:
    service = serve()
    answer = "The Loire lighthouse of Bloomville is 53 metres high."
    long = (
        f"😴 A note on lighthouses. {'They were built of granite and stood for centuries. ' * 9}{answer} It is white."
    )
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 and then nothing")
    page.open(address(service))
    said = add(page, named_file(tmp_path, "phares été.txt", long), broken)
    assert said[0] == "1 passage"
    assert len(said[1]) > 10
    assert page.texts(".progress-failed .file-name") == ["broken.pdf"]
    assert page.texts(".files .file-name") == ["phares été.txt", "sleep.txt", "sommeil.txt"]
    card = page.ask("How high is the lighthouse of Bloomville?")[0]
    assert card.find_element(By.TAG_NAME, "mark").text == answer
    assert "A note on lighthouses" not in card.text
    card.find_element(By.CSS_SELECTOR, ".whole").click()
    assert card.find_element(By.CSS_SELECTOR, ".text").text == long
    assert card.find_element(By.TAG_NAME, "mark").text == answer
    page.one(".files button").click()
    assert "phares été.txt" in page.one("#delete-lead").text
    page.one("#delete-dialog .danger").click()
    page.until(lambda: page.texts(".files .file-name") == ["sleep.txt", "sommeil.txt"])
    assert service.get("/v1/documents").json()["total"] == 2
    page.ask("How high is the lighthouse of Bloomville?")
    page.until(lambda: page.texts(".passage h3") and "phares été.txt" not in page.texts(".passage h3"))
    assert page.complaints() == []


def test_a_file_can_be_dropped(page: Page, serve: Serve) -> None:
    page.open(address(serve()))
    page.one("#add")
    page.script(
        """const held = new DataTransfer();
        held.items.add(new File(["La piscine ferme le lundi."], "piscine.txt"));
        for (const name of ["dragenter", "drop"])
          document.body.dispatchEvent(new DragEvent(name, { dataTransfer: held, bubbles: true, cancelable: true }));"""
    )
    page.until(lambda: "piscine.txt" in page.texts(".files .file-name"))
    assert not page.all("#drop-veil")[0].is_displayed()
    assert (
        page.ask("When is the pool closed?")[0].find_element(By.TAG_NAME, "mark").text == "La piscine ferme le lundi."
    )


def test_a_token_is_asked_for(page: Page, serve: Serve) -> None:
    page.open(address(serve(token=TOKEN)))
    page.one("#token-field").send_keys("wrong", Keys.ENTER)
    page.until(lambda: page.texts("#token-problem") == ["That token was refused."])
    page.one("#token-field").send_keys(TOKEN, Keys.ENTER)
    page.until(lambda: page.texts(".files .file-name") == ["sleep.txt", "sommeil.txt"])
    assert page.script("return [JSON.stringify(sessionStorage), JSON.stringify(localStorage)]") == [
        f'{{"bloomz-token":"{TOKEN}"}}',
        "{}",
    ]
    page.driver.refresh()
    assert len(page.ask(ENGLISH_QUESTION)) == 2
    assert all("401" in complaint for complaint in page.complaints())


def test_nothing_that_a_document_says_is_run(page: Page, serve: Serve, tmp_path: Path) -> None:
    text = f"{HOSTILE} The library of Bloomville opens at <b>nine</b>. <script>alert(2)</script>"
    title = f'"><script>alert(3)</script>{HOSTILE}'
    row = json.dumps({"content": text, "title": title, "meta": {"language": HOSTILE}})
    files = [named_file(tmp_path, f"{HOSTILE}{place}.jsonl", row.replace("nine", place)) for place in ("nine", "ten")]
    index_files(files[:1], tmp_path / "store", IndexSettings())
    page.open(address(serve(tmp_path / "store")))
    add(page, files[1])  # the service gives it a tamer name
    names = [f"{HOSTILE}nine.jsonl", "_img src=x onerror=alert(1)_ten.jsonl"]
    assert page.texts(".files .file-name") == names
    cards = page.ask("When does the library of Bloomville open?")
    card = next(card for card in cards if "nine" in card.text)
    assert card.find_element(By.TAG_NAME, "h3").text == title
    assert card.find_element(By.CSS_SELECTOR, ".text").text == text
    assert card.find_element(By.CSS_SELECTOR, ".tag").text == HOSTILE
    card.find_element(By.CSS_SELECTOR, ".source").click()
    page.until(lambda: page.texts(".chip.chosen") == names[:1])
    page.one(".files button").click()
    assert names[0] in page.one("#delete-lead").text
    fetched = "return [...document.querySelectorAll('img, script')].map((node) => node.getAttribute('src'))"
    assert page.script(fetched) == ["static/app.js", "static/icons/bloom.svg"]
    assert page.complaints() == []


def test_a_service_that_is_gone_is_named_and_asked_again(page: Page, served: httpx.Client) -> None:
    page.open(address(served))
    page.one(".files label")
    network = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)
    page.one("#question").send_keys(ENGLISH_QUESTION, Keys.ENTER)
    page.until(lambda: page.texts("#message p") == ["The service cannot be reached. Is it still running?"])
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": False})
    page.one("#message button").click()
    assert len(page.until(lambda: page.all(".passage"))) == 5


def test_an_empty_store_invites_files(page: Page, serve: Serve) -> None:
    service = serve()
    service.request("DELETE", "/v1/documents", json={"files": ["sleep.txt", "sommeil.txt"]})
    page.open(address(service), language="fr")
    assert page.until(lambda: page.texts("#message h2")) == ["Aucun document pour l’instant"]
    assert page.one("#held").text == "0 fichier, 0 passage"


def test_a_narrow_window_never_scrolls_sideways(page: Page, serve: Serve, tmp_path: Path) -> None:
    service = serve()
    page.open(address(service), width=320)
    add(
        page, named_file(tmp_path, f"{'trèslong' * 20}.txt", f"{'mot' * 150}. The library of Bloomville opens at nine.")
    )
    for language in ("en", "fr"):
        page.open(address(service), language=language, width=320)
        page.one("#options summary").click()
        page.one("#threshold option[value=least]").click()
        page.script("document.querySelector('#least').value = 0")
        page.ask("When does the library of Bloomville open?")
        page.all(".files input")[-1].click()
        page.one(".chip.chosen")
        page.until(lambda: len(page.all(".passage")) == 1)
        shown, needed = page.script("const {clientWidth: a, scrollWidth: b} = document.documentElement; return [a, b]")
        assert (needed, page.script("return document.documentElement.lang")) == (shown, language)
        assert shown <= 320
        page.all(".files button")[-1].click()
        box = page.one("#delete-dialog").rect
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 320
        page.one("#delete-dialog [data-cancel]").click()


LOWEST_CONTRAST = """
const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => rgb(colour).slice(0, 3)
  .map((part) => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
const ground = (node) => {
  const colour = getComputedStyle(node).backgroundColor;
  return (rgb(colour)[3] ?? 1) === 1 ? colour : ground(node.parentElement);
};
const written = [...document.querySelectorAll("body *")].filter((node) =>
  node.checkVisibility({ opacityProperty: true }) && node.tagName !== "OPTION" &&
  [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
return [written.length, Math.min(...written.map((node) => {
  const [dark, bright] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}))];
"""


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(247, 246, 242)"), ("dark", "rgb(18, 22, 21)")])
def test_light_and_dark_can_be_read(page: Page, served: httpx.Client, scheme: str, ground: str) -> None:
    page.open(address(served), scheme=scheme)
    page.one("#options summary").click()
    page.ask(ENGLISH_QUESTION)
    assert page.script("return getComputedStyle(document.body).backgroundColor") == ground
    texts, contrast = page.script(LOWEST_CONTRAST)
    assert texts > 50
    assert contrast >= 4.5  # WCAG 2.2, level AA


def test_the_keyboard_is_enough(page: Page, serve: Serve) -> None:
    page.open(address(serve()))
    page.one(".files label")
    page.press(ENGLISH_QUESTION, Keys.ENTER)  # the box has the focus from the start
    page.until(lambda: len(page.all(".passage")) == 2)

    def focused() -> str | None:
        return page.driver.switch_to.active_element.get_attribute("id")

    page.script("document.querySelector('.skip').focus()")
    page.press(Keys.ENTER)
    assert (focused(), len(page.all(".passage"))) == ("results", 2)
    page.press("/")
    reached = []
    for _ in range(20):
        page.press(Keys.TAB)
        active = page.driver.switch_to.active_element
        reached.append(
            active.get_attribute("aria-label") or active.text or active.get_attribute("id") or active.tag_name
        )
        assert (
            page.script("return getComputedStyle(document.activeElement).outlineStyle") != "none"
            or reached[-1] == "results"
        )
        if reached[-1] == "Delete sleep.txt":
            break
    order = ["Ask", "Options", "Search only in sleep.txt", "file-field", "Delete sleep.txt"]
    assert [name for name in reached if name in order] == order
    page.press(Keys.ENTER)
    page.until(lambda: page.driver.switch_to.active_element.text == "Cancel")
    page.press(Keys.TAB)
    page.press(Keys.ENTER)
    page.until(lambda: page.texts(".files .file-name") == ["sommeil.txt"])
    page.until(lambda: page.driver.switch_to.active_element.get_attribute("aria-label") == "Delete sommeil.txt")
    page.until(lambda: len(page.all(".passage")) == 1)
    page.press("/")
    assert focused() == "question"
    page.press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    page.until(lambda: page.texts(".chip.chosen") == ["sommeil.txt"])
    assert focused() == "results"


def test_all_that_can_be_used_has_a_name(page: Page, served: httpx.Client) -> None:
    page.open(address(served))
    page.one("#options summary").click()
    page.one("#threshold option[value=least]").click()
    page.ask(ENGLISH_QUESTION)
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    used = {"button", "textbox", "checkbox", "combobox", "spinbutton", "slider", "meter", "link", "search", "heading"}
    assert {role for role, _ in named} >= {"textbox", "checkbox", "slider", "meter", "main", "complementary", "status"}
    assert [(role, name) for role, name in named if role in used - {"search"} and not name.strip()] == []


class Generator(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that streams one answer."""

    WORDS = ("Sept à neuf heures ", "[1], ", "dans une chambre fraîche ", "[1][2]", ". ", HOSTILE)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["stream"] is True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
        for place, word in enumerate((*self.WORDS, None)):
            delta = {"role": "assistant"} if place == 0 else {}
            delta |= {"content": word} if word else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
            self.wfile.write(f"data: {json.dumps(head | {'choices': [choice]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args: object) -> None:
        """Be silent."""


@pytest.fixture
def generator() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Generator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_is_written_and_cites_its_passages(page: Page, serve: Serve, generator: str) -> None:
    page.open(address(serve(generator=generator, generator_model="stand-in")), language="fr")
    page.one("#options summary").click()
    page.one("#threshold option[value=all]").click()  # the answer is written from all that the page shows
    cards = page.ask(FRENCH_QUESTION)
    page.until(lambda: page.texts(".answer[aria-busy=false] .citation") == ["1", "1", "2"])
    assert page.one(".answer .text").text == f"Sept à neuf heures 1, dans une chambre fraîche 12. {HOSTILE}"
    assert "stand-in" in page.one(".answer .note").text
    page.all(".citation")[-1].click()
    assert page.driver.switch_to.active_element.id == cards[1].id
    assert page.complaints() == []
