"""Model names -> whether the Hub can be reached for them, decided once and quickly.

Without a network the Hub's client tries again for 25 s and names each try on stderr (measured); when set to stay
offline, it looks at what was downloaded before and answers at once. Must run before huggingface_hub is imported.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_SECONDS = 3.0
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def stay_offline_if_unreachable(models: Iterable[str], bundled: Iterable[str]) -> bool:
    """Set `HF_HUB_OFFLINE` if a model must come from the Hub and the Hub does not answer.

    :param models: names and folders.
    :param bundled: names that need no Hub.
    :returns: whether a model must come from the Hub.
    """
    wanted = [name for name in models if name not in set(bundled) and not Path(name).expanduser().is_dir()]
    # Behind a proxy only the client knows the way.
    if wanted and not any(os.environ.get(name) for name in PROXIES) and not _answers():
        os.environ["HF_HUB_OFFLINE"] = "1"
    return bool(wanted)


def _answers() -> bool:
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        socket.create_connection((hub.hostname or "huggingface.co", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
