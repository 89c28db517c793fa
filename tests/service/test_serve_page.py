"""docs/serve.md, http.md and clients.md keep their word: commands and clients are answered, deployment is sound."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from bloomz_haystack.cli.main import app

pytestmark = pytest.mark.slow  # a service of its own, its threads, or hundreds of requests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "pipeline/bloomz_haystack/examples"
PAGE = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("serve.md", "http.md", "clients.md"))
UNIT = (ROOT / "docs/deploy/bloomz.service").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"
SECONDS = 600  # an end for what hangs, also on a slow machine

Serve = Callable[..., httpx.Client]


def blocks(kind: str) -> list[str]:
    """Return the page's blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def curl(line: str, address: str) -> str:
    """Run a command of the page; return what it prints."""
    words = shlex.split(line.replace(HERE, address))
    command = [*words, "--silent", "--show-error", "--fail-with-body", "--noproxy", "*"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def wait_for(client: httpx.Client, job: str) -> dict[str, Any]:
    """Return a job once it is done."""
    deadline = time.monotonic() + SECONDS
    while (answer := client.get(f"/v1/jobs/{job}").json())["state"] not in ("done", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(answer)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_command_is_answered(serve: Serve) -> None:
    client, job = serve(), ""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line]
    assert len(lines) >= 17
    printed = {}
    for line in lines:
        assert line.startswith("curl ")
        printed[line] = curl(line.replace("/JOB", f"/{job}"), str(client.base_url))
        if "-F" in line or '"documents": [{' in line:
            job = json.loads(printed[line])["job"]["id"]
            assert wait_for(client, job)["state"] == "done"
    [stream] = [text for line, text in printed.items() if '"stream": true' in line]
    assert stream.endswith("data: [DONE]\n\n")
    removed = [json.loads(text)["removed"] for line, text in printed.items() if "DELETE" in line]
    assert removed == [1, 1]
    doors = {path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/v1/")}
    shown = {re.sub(r"/JOB$", "/{job}", re.search(rf"{HERE}([^\s?\"]*)", line)[1]) for line in lines}  # type: ignore[index]
    assert doors <= shown


@pytest.mark.parametrize("block", blocks("py"), ids=["openai", "haystack", "mcp"])
def test_every_client_is_answered(serve: Serve, block: str) -> None:
    client = serve(token="TOKEN")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_PROXY": "*"}
    program = block.replace(HERE, str(client.base_url))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "[1] " in done.stdout


def options_of(verb: str) -> set[str]:
    """Return the options that a verb of the command line has."""
    command = typer.main.get_command(app)
    parameters = command.commands[verb].params  # type: ignore[attr-defined]
    return {option for parameter in parameters for option in parameter.opts}


def test_every_option_that_is_named_exists() -> None:
    table = PAGE[PAGE.index("## Settings") : PAGE.index("## The API")]
    known = options_of("serve")
    assert set(re.findall(r"`(--[a-z-]+)", table)) <= known
    command = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)[1])  # type: ignore[index]
    assert command[0] == "serve"
    starts = re.findall(r"^ExecStart(?:Pre)?=-?\S+ (.*)$", UNIT, flags=re.MULTILINE)
    for words in [command, *map(str.split, starts)]:
        assert {word for word in words if word.startswith("--")} <= options_of(words[0]), words


def test_what_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    assert len(copied) == 4
    assert all((ROOT / path).exists() for line in copied for path in line.split())
    assert re.search(r"^USER (?!root)", DOCKERFILE, flags=re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_container_may_do_little() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    [service] = compose["services"].values()
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["BLOOMZ_TOKEN"].startswith("${BLOOMZ_TOKEN:?")
    named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
    assert named == compose["volumes"].keys()


def test_the_settings_of_litellm_and_agents_can_be_read() -> None:
    [models] = [yaml.safe_load(block)["model_list"] for block in blocks("yaml")]
    assert {model["litellm_params"]["api_base"] for model in models} == {f"{HERE}/v1"}
    [servers] = [json.loads(block)["mcpServers"] for block in blocks("json")]
    assert servers["documents"]["url"] == f"{HERE}/mcp"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    assert {"DynamicUser=yes", "ProtectSystem=strict", "StateDirectory=bloomz"} <= set(UNIT.splitlines())
    unit = tmp_path / "bloomz.service"
    unit.write_text(UNIT.replace("/opt/bloomz/bin/bloomz", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
