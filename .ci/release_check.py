"""What a release must pass: `make release-check` builds it, looks inside, and uses it as a stranger would.

Wheel and sdist are built and their contents checked; the wheel goes into two new environments, with the newest and with
the lowest versions that its ranges allow, and answers there in French and in English; beside Haystack's other
integrations it must own every file that it brings. Licences and a bill of materials (CycloneDX) are written to dist/.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections import Counter
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
ENVIRONMENTS = ROOT / ".venv-release"
LARGEST = 60 << 20  # bytes of the wheel; PyPI takes 100 MB a file
NEIGHBOURS = ("qdrant-haystack", "pgvector-haystack", "sentence-transformers-haystack")
# A permissive or weak copyleft licence lets others use the whole as they like; these do not.
REFUSED = re.compile(r"\b(A?GPL|SSPL|BUSL|CC-BY-NC)", flags=re.IGNORECASE)
QUESTIONS = {
    "Quand a eu lieu le grand incendie de Londres ?": "1666",
    "How long is a French passport valid?": "dix ans",
}


def main() -> None:
    """Run all steps; the first that fails ends it with one line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    check_changelog(project["version"])
    torch: list[object] = ["-c", ROOT / "constraints.txt", "torch"]  # first, and pinned: see the Makefile
    tools = environment("tools", ["build", "cyclonedx-bom", "twine"])
    wheel = built(tools)
    check_contents(wheel, project["version"])
    newest = environment("newest", torch, [f"{wheel}[serve,office]", *NEIGHBOURS, "mypy"])
    check_answers(newest, "newest")
    check_a_user(newest)
    check_ownership(newest)
    check_licences(newest)
    run(tools / "cyclonedx-py", "environment", newest / "python", "--output-file", DIST / "sbom.cdx.json")
    components = json.loads((DIST / "sbom.cdx.json").read_text())["components"]
    say(f"dist/sbom.cdx.json: {len(components)} components")
    lowest = environment("lowest", torch, ["-c", ROOT / "constraints-lowest.txt", wheel])
    check_answers(lowest, "lowest")
    say("the release is good")


def environment(name: str, *installs: list[object]) -> Path:
    """Return the folder of programs of a new environment, after one `pip install` for each list."""
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    for words in installs:
        run(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", *words)
    return programs


def built(tools: Path) -> Path:
    """Return the wheel, made from the sdist, as PyPI's users may make it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(tools / "python", "-m", "build", "--outdir", DIST, ROOT)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(tools / "python", "-m", "twine", "check", "--strict", wheel, sdist)
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    need(any(name.endswith("/tests/conftest.py") for name in names), "the sdist has no tests")
    need(not any("/shared/" in name or "/.venv" in name for name in names), "the sdist has files of this machine")
    for file in (wheel, sdist):
        say(f"dist/{file.name}: {file.stat().st_size:,} bytes")
    return wheel


def check_contents(wheel: Path, version: str) -> None:
    """Check what the wheel brings, and list its folders."""
    need(wheel.stat().st_size <= LARGEST, f"the wheel has more than {LARGEST:,} bytes")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"bloomz_haystack-{version}.dist-info/METADATA").decode()
    roots = {name.split("/")[0] for name in names}
    need(roots == {"haystack_integrations", "bloomz_haystack", f"bloomz_haystack-{version}.dist-info"}, f"got {roots}")
    namespace = re.compile(r"haystack_integrations/(\w+/)?(__init__\.py|py\.typed)")
    need(not any(map(namespace.fullmatch, names)), "a file at a namespace level would hide other integrations")
    foreign = re.compile(r"(^|/)(tests?|__pycache__|\.git.*|.*\.(pyc|bin|log))($|/)")
    strange = list(filter(foreign.search, names))
    need(not strange, f"files that do not belong into a wheel: {strange[:5]}")
    for line in ("Project-URL: ", "License-Expression: Apache-2.0", f"Version: {version}"):
        need(line in metadata, f"METADATA has no line {line!r}")
    for folder, files in sorted(Counter("/".join(name.split("/")[:-1][:3]) for name in names).items()):
        say(f"  {files:4} {folder}")


def check_answers(programs: Path, which: str) -> None:
    """Index the examples and ask, with the command that the wheel installed."""
    version = output(programs / "bloomz", "--version").strip()
    examples = output(programs / "python", "-c", "import bloomz_haystack; print(bloomz_haystack.__path__[0])").strip()
    store = ENVIRONMENTS / f"store-{which}"
    shutil.rmtree(store, ignore_errors=True)
    run(programs / "bloomz", "index", Path(examples) / "examples", "--store", store)
    for question, words in QUESTIONS.items():
        answers = json.loads(output(programs / "bloomz", "ask", question, "--store", store, "--json"))
        first = answers["documents"][0]["content"]
        need(words in first, f"{which} versions: {question} -> {first!r}, expected {words!r} in it")
    say(f"{version} answers with the {which} versions, in French and in English")


def check_a_user(programs: Path) -> None:
    """Run a user's script against the wheel, and let mypy read it as strictly as it can."""
    script, store = ROOT / "tests/user_script.py", ENVIRONMENTS / "user-store"
    shutil.rmtree(store, ignore_errors=True)
    printed = output(programs / "python", script, store)
    need(printed == "True 576 True True\n", f"{script} printed {printed!r}")
    run(programs / "python", "-m", "mypy", "--strict", script)
    say("a user's script runs, and mypy --strict finds nothing in it")


def check_ownership(programs: Path) -> None:
    """Check that no other package in the environment owns a file of ours."""
    site = output(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    owners: dict[str, list[str]] = {}
    for package in distributions(path=[site]):
        for file in package.files or []:
            owners.setdefault(str(file), []).append(package.name)
    shared = {file: names for file, names in owners.items() if "bloomz-haystack" in names and len(names) > 1}
    need(not shared, f"files with two owners: {shared}")
    say(
        f"{sum('bloomz-haystack' in names for names in owners.values())} files, none shared with {', '.join(NEIGHBOURS)}"
    )


def check_licences(programs: Path) -> None:
    """Write dist/licences.txt; refuse what would bind our users."""
    site = output(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    rows = sorted(f"{package.name} {package.version}: {licence(package)}" for package in distributions(path=[site]))
    (DIST / "licences.txt").write_text("\n".join(rows) + "\n")
    refused = [row for row in rows if REFUSED.search(row) and "LGPL" not in row]
    need(not refused, f"licences that bind our users: {refused}")
    unknown = [row for row in rows if row.endswith(": unknown")]
    say(f"dist/licences.txt: {len(rows)} packages, {len(unknown)} that do not say: {', '.join(unknown) or 'none'}")


def licence(package: Distribution) -> str:
    """Return a package's licence as its metadata give it, on one line."""
    metadata = package.metadata
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License :: ")]
    fields = [
        *(metadata.get_all("License-Expression") or []),
        "; ".join(classifiers),
        *(metadata.get_all("License") or []),
    ]
    named = next(filter(None, map(str.strip, fields)), "unknown")
    return named.splitlines()[0][:80]


def check_changelog(version: str) -> None:
    """Check that the changelog begins with what is not released yet, or, for a tag, with this version and its date."""
    first = next(re.finditer(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE))[1]
    tag = os.environ.get("RELEASE_TAG", "")
    need(tag in ("", f"v{version}"), f"the tag is {tag}, but pyproject.toml has version {version}")
    expected = rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d" if tag else r"\[Unreleased\]"
    need(bool(re.fullmatch(expected, first)), f"CHANGELOG.md begins with {first!r}, expected {expected}")


def run(*command: object) -> None:
    """Run a command, offline but for pip; what it prints is shown if it fails."""
    output(*command)


def output(*command: object) -> str:
    """Return what a command prints."""
    words = [str(word) for word in command]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=ENVIRONMENTS)
    need(not done.returncode, f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def need(fulfilled: bool, otherwise: str) -> None:
    """End with one line unless something holds."""
    if not fulfilled:
        sys.exit(f"release-check: {otherwise}")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    ENVIRONMENTS.mkdir(exist_ok=True)
    main()
