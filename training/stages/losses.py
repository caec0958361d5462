"""The loss of stage 1: contrastive alignment of images with texts that may fit more than one of them.

Letters: B images, T texts, E channels of the common space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def contrastive_loss(image: Tensor, text: Tensor, positive: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE with any number of positives per row and per column.

    `image` (B, E) and `text` (T, E) are unit vectors, `positive` (B, T) is True where the text fits the
    image, `scale` is the inverse temperature. The target of a row is uniform over its positives, so
    samples that say the same are never pushed apart. Rows and columns without a positive carry no
    target and are left out. With exactly one positive per row and column this is the loss of CLIP
    (Radford et al. 2021, section 2.3); several positives follow Khosla et al. 2020, equation 2.
    """
    logits = scale * image @ text.T  # (B, T)
    return 0.5 * (_soft_cross_entropy(logits, positive) + _soft_cross_entropy(logits.T, positive.T))


def _soft_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows with a positive of the cross-entropy against the uniform target over positives."""
    target = positive.to(logits.dtype)  # (R, C)
    count = target.sum(dim=-1)  # (R,)
    rows = -(target * logits.log_softmax(dim=-1)).sum(dim=-1) / count.clamp(min=1)  # (R,)
    return rows.sum() / (count > 0).sum().clamp(min=1)


def retrieval_precision(image: Tensor, text: Tensor, positive: Tensor) -> float:
    """Share of texts whose nearest image is one that they fit; texts that fit no image are left out."""
    best = (text @ image.T).argmax(dim=-1)  # (T,)
    has_image = positive.any(dim=0)  # (T,)
    hits = positive.T.gather(1, best[:, None])[:, 0]  # (T,)
    return float(hits[has_image].float().mean()) if bool(has_image.any()) else float("nan")
