"""Actors of Ray make the parts that one process makes, bit for bit, also when a machine of the cluster dies."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bloomz_haystack.cli import main as cli
from bloomz_haystack.cluster import ray_encoders
from bloomz_haystack.cluster.embed import embed_inputs
from bloomz_haystack.cluster.ray_encoders import RayEncoders
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary
from bloomz_haystack.settings import EmbedSettings

if TYPE_CHECKING:
    from tests.cluster.conftest import Contents

MEGABYTES = 2**20
SECONDS = 600  # an end for what hangs, also on a slow machine


# Ray's own ends, which a slow machine would reach.
PATIENT = {
    "RAY_agent_register_timeout_ms": 1000 * SECONDS,
    "RAY_gcs_server_port_wait_time_s": SECONDS,
    "RAY_gcs_server_request_timeout_seconds": SECONDS,
    "RAY_health_check_timeout_ms": 1000 * SECONDS,
    "RAY_worker_register_timeout_seconds": SECONDS,
}


def patient(look_up: Callable[..., Any]) -> Callable[..., Any]:
    """Return a look-up that waits until the node is there."""

    def wait(*given: object) -> Any:  # noqa: ANN401
        end = time.monotonic() + SECONDS
        while True:
            try:
                return look_up(*given)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines, as Ray sees them, of one CPU and of two; the head computes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name, end in {**PATIENT, "RAY_USAGE_STATS_ENABLED": 0}.items():
            patch.setenv(name, str(end))
        utils, services = map(pytest.importorskip, ("ray.cluster_utils", "ray._private.services"))
        patch.setattr(services, "get_node", patient(services.get_node))  # which Ray asks for 30 seconds
        patch.setattr(ray_encoders, "PATIENCE", SECONDS)
        store = {"object_store_memory": 80 * MEGABYTES, "include_dashboard": False, "wait": False}
        cluster = utils.Cluster()
        _, cluster.small, cluster.large = (cluster.add_node(num_cpus=cpus, **store) for cpus in (0, 1, 2))
        cluster.wait_for_nodes(SECONDS)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def settings(tiny_bloom: Path) -> EmbedSettings:
    return EmbedSettings(str(tiny_bloom), passage_words=12, part_passages=4)


@pytest.fixture
def many_rows(tmp_path: Path) -> Path:
    """120 passages and a row that is none; parts so large that they lie in the memory of the machine that made them."""
    noise = random.Random(0)
    rows = [
        {"content": f"{text} {n}", "meta": {"noise": noise.randbytes(40_000).hex()}}
        for n in range(60)
        for text in ("La tour Eiffel, étage", "The Eiffel tower, floor")
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:50]) + "{\n" + "".join(map(_line, rows[50:])))
    return path


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


class MachineFailure(IndexProgress):
    """Waits until two machines work, and stops one of them some parts later."""

    def __init__(self, cluster: Any, maker: RayEncoders) -> None:  # noqa: ANN401
        self.cluster, self.maker, self.both_since = cluster, maker, 0
        self.parts = 0

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        self.parts += 1
        if starting := list(self.maker._starting):
            self.maker.ray.wait(starting, timeout=SECONDS)
        if len(self.maker._working) == 2:
            self.both_since = self.both_since or self.parts
            if self.parts == self.both_since + 3:
                self.cluster.remove_node(self.cluster.large, allow_graceful=False)


@pytest.mark.slow
def test_a_cluster_without_a_free_cpu_is_refused(cluster: Any, settings: EmbedSettings) -> None:  # noqa: ANN401
    import ray

    ray.init(cluster.address, log_to_driver=False)
    try:
        group = ray.util.placement_group([{"CPU": 1}] * 3)
        ray.get(group.ready(), timeout=SECONDS)
        with pytest.raises(ValueError, match="no room for an actor: 0 of 3 CPUs are free; wait, or add a machine"):
            RayEncoders(settings, "auto")
        with pytest.raises(ValueError, match="--device cuda: the Ray cluster has no GPU"):
            RayEncoders(EmbedSettings(settings.model, device="cuda"), "auto")
        assert ray.is_initialized()  # it was not ours to end
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_machine_that_dies_costs_nothing_but_time(
    cluster: Any,  # noqa: ANN401
    texts: Path,
    many_rows: Path,
    settings: EmbedSettings,
    tmp_path: Path,
    contents: "Contents",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = [texts.relative_to(tmp_path), many_rows.relative_to(tmp_path)]
    one = embed_inputs(inputs, tmp_path / "one", settings)
    maker = RayEncoders(settings, cluster.address)
    failure = MachineFailure(cluster, maker)
    many = embed_inputs(inputs, tmp_path / "many", settings, progress=failure, maker=maker)
    assert sum(maker._deaths.values()) == 1
    assert 0 < failure.both_since < failure.parts - 5
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert (many.passages, many.parts, many.embedded) == (one.passages, one.parts, one.passages)
    assert [str(problem) for problem in many.problems] == [f"many.jsonl:51: {one.problems[0].reason}"]
    # Negative control: another vector is another part.
    changed = many_rows.read_text().replace("floor 0", "floor zero")
    many_rows.write_text(changed)
    embed_inputs(inputs, tmp_path / "other", settings)
    assert contents(tmp_path / "other") != contents(tmp_path / "one")


@pytest.mark.slow
def test_addresses_that_lead_nowhere_are_one_line(settings: EmbedSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address, said in (
        ("ray://127.0.0.1:10001", "--ray must be local, auto or HOST:PORT, but got ray://127.0.0.1:10001"),
        ("nowhere", "no Ray cluster at nowhere"),
        (
            "127.0.0.1:1",
            r"no Ray cluster at 127.0.0.1:1 \(.*refused.*\): start one with ray start --head, or give local",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            RayEncoders(settings, address)


def test_without_ray_the_command_says_how_to_install_it(
    many_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("BLOOMZ_DEBUG", raising=False)
    arguments = ["embed", str(many_rows), "--out", str(tmp_path / "parts"), "--ray", "auto"]
    result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == 'bloomz: --ray needs Ray: pip install "bloomz-haystack[ray]"\n'
    assert not (tmp_path / "parts").exists()
