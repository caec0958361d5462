"""The projector of LLaVA (`mlp2x_gelu`): slide tokens become words of the language model."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SlideProjector(nn.Module):
    """Two linear layers with a GELU between, C → W → W."""

    def __init__(self, feature_dim: int, word_dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(feature_dim, word_dim)
        self.linear_2 = nn.Linear(word_dim, word_dim)

    def forward(self, slide_features: Tensor) -> Tensor:
        """(B, n, C) → (B, n, W)."""
        return self.linear_2(F.gelu(self.linear_1(slide_features)))
