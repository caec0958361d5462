"""What the tile encoder is taught, by heads that are thrown away afterwards.

Every head is linear, so that what it learns to read lies linearly in the features. The CLS token answers
for the tile; the patch tokens answer for the truth cells they lie in, which says where in the tile things
are: a mitosis is one token in two hundred, and learnt from counts alone it would stay unseen.

Letters: B tiles, D channels, k cells of a side (7, or fewer for a crop), n patches of a side.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.phantom.truth import BENIGN, DIAGNOSES, Zone
from training.tiles.data import CELLS

ZONES = len(Zone)
TUMOURS = tuple(name for name in DIAGNOSES if name != BENIGN)
KINDS = ZONES + 3 * len(TUMOURS)
"""Kinds of a cell: its zone, and for tumour its type and grade."""
SEEN, UNSEEN = 0.2, 0.02
"""Share of tumour in the tissue from which a tile must name it, and up to which it is benign. Between the
two the tile teaches neither."""
NO_LABEL = -100


@dataclass(frozen=True)
class CellTruth:
    """The truth of a batch of phantom tiles or crops."""

    zones: Tensor
    """(B, k, k) int64."""
    lymphocytes: Tensor
    """(B, k, k) float: count per cell."""
    mitoses: Tensor
    """(B, k, k) float: count per cell."""
    diagnosis: Tensor
    """(B,) int64 index into DIAGNOSES, of the slide."""
    grade: Tensor
    """(B,) int64, 0 for none, of the slide."""

    def to(self, device: str) -> CellTruth:
        """A copy of the truth on another device."""
        return CellTruth(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})

    def tumour_share(self) -> Tensor:
        """(B,) share of tumour and necrosis in the tissue; 0 where there is no tissue."""
        cancer = (self.zones == Zone.TUMOUR) | (self.zones == Zone.NECROSIS)  # (B, k, k)
        tissue = (self.zones != Zone.GLASS).sum((1, 2))  # (B,)
        return cancer.sum((1, 2)) / tissue.clamp(min=1)

    def labels(self) -> tuple[Tensor, Tensor]:
        """Diagnosis and grade that the tiles themselves show, (B,) each; NO_LABEL where undecidable."""
        share = self.tumour_share()
        benign = share <= UNSEEN
        unclear = ~benign & (share < SEEN) | (self.zones == Zone.GLASS).all(2).all(1)
        diagnosis = torch.where(benign, DIAGNOSES.index(BENIGN), self.diagnosis)
        grade = torch.where(benign, 0, self.grade)
        return diagnosis.masked_fill(unclear, NO_LABEL), grade.masked_fill(unclear, NO_LABEL)

    def zone_shares(self) -> Tensor:
        """(B, ZONES) share of each zone."""
        return F.one_hot(self.zones.flatten(1), ZONES).float().mean(1)

    def counts(self) -> Tensor:
        """(B, 3) per area of a full tile: lymphocytes / 10, log(1 + lymphocytes), mitoses."""
        lymphocytes = self.lymphocytes.mean((1, 2)) * CELLS**2  # (B,)
        mitoses = self.mitoses.mean((1, 2)) * CELLS**2  # (B,)
        return torch.stack([lymphocytes / 10, lymphocytes.log1p(), mitoses], dim=1)

    def kinds(self) -> Tensor:
        """(B, k, k) index below KINDS."""
        tumours = torch.tensor([TUMOURS.index(name) if name in TUMOURS else 0 for name in DIAGNOSES])
        place = ZONES + 3 * tumours.to(self.diagnosis.device)[self.diagnosis] + (self.grade - 1).clamp(min=0)
        return torch.where(self.zones == Zone.TUMOUR, place[:, None, None], self.zones)


class TileHeads(nn.Module):
    """Linear readers of the CLS token (B, D) and of the patch tokens."""

    def __init__(self, dim: int, classes: int) -> None:
        """`classes` of real tissue; 0 where there are no real tiles."""
        super().__init__()
        self.real = nn.Linear(dim, max(1, classes))
        self.diagnosis = nn.Linear(dim, len(DIAGNOSES))
        self.grade = nn.Linear(dim, 4)
        self.zones = nn.Linear(dim, ZONES)
        self.counts = nn.Linear(dim, 3)
        self.cell_kind = nn.Linear(dim, KINDS)
        self.cell_counts = nn.Linear(dim, 2)

    def real_loss(self, cls: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Cross-entropy of the tissue classes."""
        return F.cross_entropy(self.real(cls).float(), labels, label_smoothing=smoothing)

    def tile_losses(self, cls: Tensor, truth: CellTruth) -> dict[str, Tensor]:
        """Losses of what a phantom tile shows as a whole, from its CLS token (B, D)."""
        diagnosis, grade = truth.labels()
        return {
            "diagnosis": _cross_entropy(self.diagnosis(cls), diagnosis),
            "grade": _cross_entropy(self.grade(cls), grade),
            "zones": F.cross_entropy(self.zones(cls).float(), truth.zone_shares()),
            "counts": F.smooth_l1_loss(self.counts(cls).float(), truth.counts()),
        }

    def cell_losses(self, patches: Tensor, truth: CellTruth) -> dict[str, Tensor]:
        """Losses of what each cell shows, from the patch tokens (B, n·n, D)."""
        cells = cell_tokens(patches, truth.zones.shape[-1])  # (B, k·k, D)
        lymphocytes, mitoses = self.cell_counts(cells).float().unbind(-1)  # (B, k·k) each
        return {
            "cell_kind": F.cross_entropy(
                self.cell_kind(cells).float().flatten(0, 1), truth.kinds().flatten()
            ),
            "cell_lymphocytes": F.smooth_l1_loss(lymphocytes, truth.lymphocytes.flatten(1)),
            "cell_mitosis": F.binary_cross_entropy_with_logits(
                mitoses, (truth.mitoses.flatten(1) > 0).float(), pos_weight=mitoses.new_tensor(5.0)
            ),
        }


def cell_tokens(patches: Tensor, cells: int) -> Tensor:
    """Patch tokens (B, n·n, D) → mean of those in each truth cell (B, k·k, D); k divides n."""
    count, length, dim = patches.shape
    per = round(length**0.5) // cells
    grid = patches.view(count, cells, per, cells, per, dim)  # (B, k, n/k, k, n/k, D)
    return grid.mean((2, 4)).flatten(1, 2)  # (B, k·k, D)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled rows; 0 where none is labelled."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="sum")
    return total / (labels != NO_LABEL).sum().clamp(min=1)
