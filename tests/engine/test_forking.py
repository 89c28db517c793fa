"""A process that was forked after the models were loaded, as gunicorn --preload and multiprocessing do it."""

import os
import subprocess
import sys

import pytest

SECONDS = 600  # an end for what hangs, also on a slow machine

# Two threads in the parent: with one there is no pool of OpenMP whose loss could hang the child.
PREFORK = """
import os, threading, torch
from haystack import Document
from haystack_integrations.common.bloomz import checkpoint
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

texts = ["La Seine coule à Paris. " * 9, "The Thames flows through London. " * 9] * 8
documents = [Document(content=f"{n} {text}") for n, text in enumerate(texts)]

def components(precision):
    return (
        BloomzDocumentEmbedder("tiny-fr-en-retriever", progress_bar=False, precision=precision),
        BloomzRanker("tiny-fr-en-ranker", progress_bar=False, precision=precision, top_k=16),
    )

def answer(embedder, ranker):
    vectors = [document.embedding for document in embedder.run(documents)["documents"]]
    ranked = ranker.run(query="Où coule la Seine ? Where?", documents=documents)["documents"]
    return torch.tensor(vectors), torch.tensor([document.score for document in ranked])

def forked(name, loaded, expected):
    child = os.fork()
    if child == 0:
        right = all(torch.allclose(*pair, atol=1e-4) for pair in zip(answer(*loaded), expected))
        os._exit(0 if right and torch.get_num_threads() == 1 else 1)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

assert torch.get_num_threads() == 2
plain, short = components(None), components("int8")
expected, expected_short = answer(*plain), answer(*short)
forked("warm", plain, expected)
forked("warm int8", short, expected_short)
forked("new in the child", components("int8"), expected_short)

held = threading.Event()
def hold():
    with checkpoint._loading_lock, checkpoint._shelf_lock, plain[1]._lock:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
forked("locked", (components(None)[0], plain[1]), expected)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_what_its_parent_does() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREFORK],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        check=False,
    )
    assert done.stdout.splitlines() == ["warm 0", "warm int8 0", "new in the child 0", "locked 0"], done.stderr


@pytest.mark.slow
def test_everything_imports_where_posix_is_missing() -> None:
    """As on Windows: without fork, its hooks, file locks, rights, processor affinity and some signals."""
    code = """
import os, signal, sys
import haystack, haystack.utils, huggingface_hub, qdrant_edge, safetensors, tokenizers, torch, tqdm  # as they are there
import logging.handlers, random, tempfile, uuid
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "fchmod", "getuid", "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
    delattr(signal, name)
import haystack_integrations.common.bloomz.checkpoint as checkpoint
import haystack_integrations.document_stores.qdrant_edge
import haystack_integrations.components.embedders.bloomz
import haystack_integrations.components.rankers.bloomz
import haystack_integrations.components.retrievers.qdrant_edge
import bloomz_haystack.files.provenance
from haystack_integrations.common.bloomz.encoder import Encoder
opened = checkpoint.open_checkpoint(checkpoint.BUNDLED_RETRIEVER, "embed")
print(Encoder(opened).encode(["Une île."]).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("(1, 576)", 0), done.stderr
