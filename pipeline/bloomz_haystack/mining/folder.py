"""The folder of a mining run: its settings, and one file per block of questions, each written atomically.

Several processes may fill one folder, each its shard of the blocks: no name depends on how many there are.
"""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bloomz_haystack.files.shard import ALL_BLOCKS, Shard
from haystack_integrations.common.bloomz.whole_files import replacing, write_whole

SETTINGS_FILE = "mining.yaml"  # not .json: that is a kind of data
STORE_FOLDER = "store"


class MiningFolder:
    """Where a run writes, and where the same command resumes."""

    def __init__(self, folder: Path, settings: dict[str, Any], shard: Shard = ALL_BLOCKS) -> None:
        """Open the folder, or create it.

        :param folder: new, empty, or of a run with the same settings.
        :param settings: plain values.
        :param shard: of the blocks; others may be at work in the same folder.
        :raises ValueError: if it holds something else, or a run with other settings.
        """
        self.folder, self.settings, self.shard = folder, settings, shard
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, but --out must name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        torn = {name for name in names if name.endswith(".part")}
        for name in filter(self._is_own, torn):  # of a process that was killed while it wrote
            (folder / name).unlink(missing_ok=True)
        if (folder / SETTINGS_FILE).exists():
            self._check()
        elif strangers := sorted(names - torn - {SETTINGS_FILE}):
            raise ValueError(f"{folder} holds other files ({', '.join(strangers[:3])}): give a new or an empty folder")
        else:
            self.write()
            self._check()  # another shard may have written its own

    @property
    def store(self) -> Path:
        """Folder of the store, which one process can hold."""
        return self.folder / f"{STORE_FOLDER}{self.shard.suffix}"

    def write(self, summary: dict[str, Any] | None = None) -> None:
        """Write the settings, and at the end of a run its summary.

        :param summary: plain values.
        """
        values = {"settings": self.settings, **({"summary": summary} if summary else {})}
        write_whole(self.folder / SETTINGS_FILE, yaml.safe_dump(values, allow_unicode=True, sort_keys=False))

    def part(self, number: int) -> Path:
        """Return the path of a block's file.

        :param number: of the block, from 0.
        :returns: the path; if it exists, the block is done.
        """
        return self.folder / f"part-{number:05d}.jsonl.gz"

    def write_part(self, number: int, rows: Iterable[dict[str, Any]]) -> None:
        """Write the file of a block.

        :param number: of the block.
        :param rows: plain values.
        """
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with replacing(self.part(number)) as path:
            # No time in the header, so that the same rows give the same bytes.
            path.write_bytes(gzip.compress(lines.encode("utf-8"), mtime=0))

    def _is_own(self, torn: str) -> bool:
        """Whether half a file is of this process's blocks; what another shard writes just now must stay."""
        number = torn.removeprefix("part-").partition(".")[0]
        return self.shard.takes(int(number)) if number.isdecimal() else self.shard == ALL_BLOCKS

    def _check(self) -> None:
        path = self.folder / SETTINGS_FILE
        try:
            kept = yaml.safe_load(path.read_text(encoding="utf-8"))["settings"]
            differing = sorted(key for key in self.settings if self.settings[key] != kept.get(key))
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is not from a mining run: give a new or an empty folder") from None
        if differing:
            names = ", ".join(differing)
            raise ValueError(
                f"{self.folder} was started with another {names}: resume with the same, or give another --out"
            )
