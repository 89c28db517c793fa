"""The options of `bloomz serve`, with their defaults. Imports nothing heavy, since `--help` needs them."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from bloomz_haystack.settings import AskSettings, check_positive

MOST_JSON = 4_000_000  # bytes in the body of a request, uploads apart


@dataclass(frozen=True)
class ServeSettings:
    """How the service runs; a value out of range is a ValueError."""

    store: str | Path | None
    ask: AskSettings = field(default_factory=AskSettings)
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)  # that clients must send; needed beyond this machine
    log_questions: bool = False
    cors_origins: tuple[str, ...] = ()  # web pages of other origins that may call
    generator: str | None = (
        None  # address of an OpenAI-compatible server that words answers, e.g. http://127.0.0.1:11434/v1
    )
    generator_model: str | None = None  # its model
    max_upload: int = 100_000_000  # bytes in one upload, all its files together
    slots: int = 2  # requests computed at the same time
    pipeline: str | Path | None = None  # YAML file, in place of a store: any document store, which is only read
    waiting: int = 32  # requests that may wait for a slot; more are refused with 503

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: if one is out of range, or the service would be open to a network without a token.
        """
        check_positive("max_upload", self.max_upload)
        check_positive("slots", self.slots)
        if self.waiting < 0:
            raise ValueError(f"waiting must be >= 0, but got {self.waiting}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, but got {self.port}")
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached by other machines: give a token with --token-file FILE or BLOOMZ_TOKEN, "
                "or serve on 127.0.0.1"
            )
        if bool(self.generator) != bool(self.generator_model):
            raise ValueError("a generator needs both its address and its model: --generator URL --generator-model NAME")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host.

    :param host: a name or an address.
    :returns: whether it is so for certain.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(text: str) -> str:
    """Return a token as a client can send it in a header.

    :param text: of a file or an environment variable; blanks around it do not count.
    :returns: the token.
    :raises ValueError: if it is empty, or holds what a header cannot.
    """
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token must be one word of printable ASCII, e.g. from: openssl rand -hex 32")
    return token
