"""Where numbers and weights come from: SHA-256 of a file, git commit of this code, version of a package."""

import hashlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NOT_INSTALLED = "not installed"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits.

    :param path: of the file.
    :returns: the digest.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_version(name: str) -> str:
    """Return the version of an installed package.

    :param name: of the distribution, e.g. "torch".
    :returns: the version, or "not installed".
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED


def git_commit(here: Path = Path(__file__)) -> str | None:
    """Return the commit of this code.

    :param here: a file of the code.
    :returns: 40 hexadecimal digits, with "-dirty" behind them where code has changed since; None outside a clone of it,
        e.g. where the package is installed inside somebody else's repository.
    """
    try:
        _git(here, "ls-files", "--error-unmatch", here.name)
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", ":(top)*.py", ":(top)*.yaml")
        return _git(here, "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
