"""The contrastive loss against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from training.stages.losses import contrastive_loss, retrieval_precision


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_single_positives_give_the_loss_of_clip() -> None:
    image, text, scale = unit(6, 8), unit(6, 8, seed=1), torch.tensor(10.0)
    logits = scale * image @ text.T
    order = torch.arange(6)
    expected = (F.cross_entropy(logits, order) + F.cross_entropy(logits.T, order)) / 2
    assert contrastive_loss(image, text, torch.eye(6, dtype=torch.bool), scale) == pytest.approx(
        float(expected)
    )


def test_equal_samples_are_not_pushed_apart() -> None:
    """Two images that say the same sit on one point: with both as positives that is the optimum."""
    image = unit(2, 8)[[0, 0, 1]].clone().requires_grad_()
    text = image.detach().clone()
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    contrastive_loss(image, text, same, torch.tensor(50.0)).backward()
    assert image.grad is not None
    pull = image.grad[:2].clone()
    image.grad = None
    contrastive_loss(image, text, torch.eye(3, dtype=torch.bool), torch.tensor(50.0)).backward()
    assert torch.allclose(pull[0], pull[1])
    assert contrastive_loss(image, text, same, torch.tensor(50.0)) < contrastive_loss(
        image, text.roll(1, 0), same, torch.tensor(50.0)
    )


def test_a_text_that_fits_nothing_has_no_target() -> None:
    image, text = unit(4, 8), unit(5, 8, seed=1)
    fits = torch.zeros(4, 5, dtype=torch.bool)
    fits[0, 0] = True
    moved = text.clone()
    moved[4] = unit(1, 8, seed=9)[0]
    assert torch.isfinite(contrastive_loss(image, text, fits, torch.tensor(5.0)))
    assert contrastive_loss(image, text, torch.zeros(4, 5, dtype=torch.bool), torch.tensor(5.0)) == 0


def test_retrieval_counts_texts_whose_nearest_image_fits() -> None:
    image = torch.eye(3)
    text = torch.eye(3)[[0, 1, 1]]
    fits = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    assert retrieval_precision(image, text, fits) == 1.0  # the third text fits nothing and is not asked
    fits[2, 2] = True
    assert retrieval_precision(image, text, fits) == pytest.approx(2 / 3)
