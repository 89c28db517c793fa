"""A safetensors file -> its tensors, each matrix in a mapping of its own, so that its pages are let go when it is.

With one mapping for the whole file, what was read stays in memory until the last tensor is dropped: while a model is
quantised, all of the file beside all of its copy.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def mapped_tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Map the matrices of a file; copy what is smaller or of a rare dtype.

    :param file: safetensors.
    :yields: name and tensor, by name; writing to one does not change the file.
    :raises safetensors.SafetensorError: if it is none, or torn.
    """
    # The library checks the whole header, places of the tensors included; where the bytes are, it keeps to itself.
    with safe_open(file, framework="pt") as opened, file.open("rb") as plain:
        length = int.from_bytes(plain.read(8), "little")
        header = json.loads(plain.read(length))
        for name in opened.keys():  # noqa: SIM118  # not a dict
            facts = header[name]
            if len(facts["shape"]) == 2 and facts["dtype"] in DTYPES and all(facts["shape"]):
                begin, end = facts["data_offsets"]
                content = np.memmap(file, np.uint8, "c", 8 + length + begin, (end - begin,))
                yield name, torch.from_numpy(content).view(DTYPES[facts["dtype"]]).view(facts["shape"])
            else:
                yield name, opened.get_tensor(name).clone()
