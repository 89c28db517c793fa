"""20 seconds of mixed load; `python tests/service/soak.py 600` is the same for ten minutes."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = 20


def soak_module() -> Any:  # noqa: ANN401  # a module
    spec = importlib.util.spec_from_file_location("soak", Path(__file__).with_name("soak.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_under_mixed_load_every_answer_is_right_and_nothing_leaks(tmp_path: Path) -> None:
    soaked = soak_module().soak(SECONDS, tmp_path)
    assert (soaked.wrong, soaked.errors, soaked.code) == ([], [], 0)
    assert soaked.late.files <= soaked.early.files + 16  # connections come and go
    assert soaked.late.threads <= soaked.early.threads + 4
    assert soaked.late.resident < 1.25 * soaked.early.resident
