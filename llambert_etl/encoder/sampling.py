"""The order in which a stage learns from its rows: batches of like length, the same ones for one seed and epoch."""

import math
from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class FullBatches(LengthGroupedSampler):
    """Batches of rows of like length, in any order, the last one filled up so that it too can be dealt out evenly."""

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int) -> None:
        # Not the process's own random numbers: those part ways with the dropout of texts of other lengths.
        generator = torch.Generator().manual_seed(seed)
        super().__init__(batch_size, lengths=list(lengths), generator=generator)
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch as it would begin after the ones before it: an interrupted training goes on with it."""
        self.generator.manual_seed(self._seed + epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        again = torch.randint(len(self.lengths), [len(self) - len(self.lengths)], generator=self.generator)
        # They come sorted, dozens of batches at a time: a model that sees long texts first ends on the short ones.
        rows = [*super().__iter__(), *again.tolist()]  # type: ignore[no-untyped-call]
        batches = torch.tensor(rows).view(-1, self.batch_size)
        return iter(batches[torch.randperm(len(batches), generator=self.generator)].flatten().tolist())
