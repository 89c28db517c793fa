"""Start and tutorial, in English and in French, followed word by word: what they print is what stands below."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

pytestmark = pytest.mark.slow  # whole processes

ROOT = Path(__file__).parents[1]
SECONDS = 600  # an end for what hangs, also on a slow machine
PAGES = ("start.md", "tutorial.md", "fr/start.md", "fr/tutorial.md")
# A block, its title, and the text right below, which is what it prints.
BLOCK = re.compile(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```\n(?:```text\n(.*?)^```\n)?', re.MULTILINE | re.DOTALL)
# Scores move in their last digits with the processor, seconds with its load.
UNSURE = re.compile(r"^\d+\.\d s, .*$|\d+\.\d+", re.MULTILINE)
DRAWN = re.compile(r"\x1b\[[\d;]*m")

END = "=== end of a block ==="
IN_ORDER = f"""
import json, shlex, sys
from bloomz_haystack.cli.main import app
for kind, source in json.loads(sys.argv[1]):
    if kind == "python":
        exec(source, {{}})
    for line in source.splitlines() if kind == "sh" else ():
        words = shlex.split(line)
        assert words[0] == "bloomz" or words[:2] == ["pip", "install"], line
        assert words[0] == "pip" or not app(words[1:], standalone_mode=False), line
    if kind not in ("python", "sh"):
        with open(kind, "w", encoding="utf-8") as file:
            file.write(source)
    print({END!r}, flush=True)
"""


class Block(NamedTuple):
    """A block of a page: the kind is a file's name where the block is what that file holds."""

    kind: str
    source: str
    printed: str


def blocks_of(page: str) -> list[Block]:
    """Return what a page runs or writes, in order."""
    found = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return [
        Block(kind if kind in ("sh", "python", "bash") else title, source, printed)
        for kind, title, source, printed in found
        if kind in ("sh", "python", "bash") or title
    ]


def on_terminal(blocks: list[Block], folder: Path) -> list[str]:
    """Return what each block prints to a terminal of 75 columns."""
    master, slave = pty.openpty()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm", "COLUMNS": "75"}
    steps = json.dumps([(block.kind, block.source) for block in blocks])
    with (folder / "stderr.txt").open("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-c", IN_ORDER, steps]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=errors)
        os.close(slave)
        printed = b"".join(_read(master))
        assert process.wait(SECONDS) == 0, (folder / "stderr.txt").read_text(encoding="utf-8")
    return DRAWN.sub("", printed.decode()).split(END)[:-1]


def _read(master: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(master, 65536)
        except OSError:  # nobody has it open any more
            os.close(master)
            return


def words(printed: str) -> list[str]:
    """Return what must be as the page says."""
    return UNSURE.sub("#", printed).split()


@contextmanager
def served(line: str, folder: Path) -> Iterator[str]:
    """Run a `bloomz serve` of a page, on a free port; yield its address."""
    command = [sys.executable, "-m", "bloomz_haystack", *shlex.split(line)[1:], "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = json.loads(process.stderr.readline())["address"]
        client = httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=SECONDS)  # 8 waits, the last of 32 s
        while client.get(f"{address}/readyz").status_code != 200:
            time.sleep(0.1)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says_and_its_service_answers(page: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    (tmp_path / "handbook").mkdir()
    blocks = [block for block in blocks_of(page) if block.kind != "bash"]
    assert sum(bool(block.printed) for block in blocks) >= 4
    for block, printed in zip(blocks, on_terminal(blocks, tmp_path), strict=True):
        assert not block.printed or words(printed) == words(block.printed)
    in_bash = [line for block in blocks_of(page) if block.kind == "bash" for line in block.source.splitlines()]
    assert (len(in_bash) > 1) == page.endswith("tutorial.md")
    if in_bash:
        ask_service(in_bash[0], in_bash[1:], tmp_path)


def ask_service(serve: str, curls: list[str], folder: Path) -> None:
    """Run the service that a page has started; it answers what the page asks."""
    with served(serve, folder) as address:
        for line in curls:
            _, url, *_, body = shlex.split(line)
            asked = url.replace("http://127.0.0.1:8000", address)
            answer = httpx.post(asked, json=json.loads(body), timeout=SECONDS).json()
            assert answer["passages"][0]["answer"]["text"].startswith("Un repas est remboursé jusqu'à 20 euros")
