"""Count calibration.csv: `python docs/figures/calibration.py "SET=ROWS.jsonl" ...`.

ROWS are what `bloomz benchmark quality` kept in its folder rows/. Of each set, by tenths of the first passage's
probability: the lowest, the mean, and the share that answers.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

BINS = 10


def main(arguments: list[str]) -> None:
    """Write the file; several ROWS of one SET are counted together."""
    kept: dict[str, list[tuple[float, bool]]] = {}
    for argument in arguments:
        name, _, path = argument.rpartition("=")
        rows = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
        kept.setdefault(name, []).extend((row["score"], row["rank"] <= 1) for row in rows)
    with (Path(__file__).parent / "calibration.csv").open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow
        file.write("set,lowest,promised,happened,questions\n")
        for name, pairs in kept.items():
            scores, right = np.array(pairs, np.float64).T
            bins = np.minimum((scores * BINS).astype(int), BINS - 1)
            for number in np.unique(bins):
                there = bins == number
                means = (round(float(values[there].mean()), 3) for values in (scores, right))
                write((name, int(number) / BINS, *means, int(there.sum())))


if __name__ == "__main__":
    main(sys.argv[1:])
