"""I of N -> which blocks of a run one of N processes does. Knows nothing of the work."""

from typing import NamedTuple


class Shard(NamedTuple):
    """One of `total` processes that share the blocks of a run; `place` counts from 0, as job arrays do.

    >>> [block for block in range(8) if Shard(1, 3).takes(block)]
    [1, 4, 7]
    """

    place: int = 0
    total: int = 1

    def takes(self, block: int) -> bool:
        """Return whether a block is this process's: every `total`-th is.

        :param block: its number, from 0, the same in every process.
        :returns: of the shards of one total, exactly one takes it.
        """
        return block % self.total == self.place

    @property
    def suffix(self) -> str:
        """What sets the names of this process's files apart: "-3-of-16"; nothing where there is one process."""
        return f"-{self.place}-of-{self.total}" if self.total > 1 else ""


ALL_BLOCKS = Shard()
