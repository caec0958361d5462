"""Decides what a procedural slide shows: diagnosis, grade, attributes, size, stain and scanner.

Each attribute is dealt from its own shuffled deck, so that any run of 24 slides is balanced and the
attributes are independent of each other. Everything follows from (seed, index) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.phantom.truth import BENIGN, LYMPHOCYTE_LEVELS, MITOSIS_LEVELS, NECROSIS_LEVELS

ADENO, SQUAMOUS, PAPILLARY, SMALL = (
    "adenocarcinoma",
    "squamous cell carcinoma",
    "papillary carcinoma",
    "small cell carcinoma",
)
_LARGE = (ADENO, SQUAMOUS, PAPILLARY)
OUTCOMES: tuple[tuple[str, int | None], ...] = (
    *((BENIGN, None),) * 6,
    *((name, 1) for name in _LARGE * 2),
    *((name, 2) for name in _LARGE * 2),
    *((name, 3) for name in _LARGE),
    *((SMALL, 3),) * 3,
)
"""A deck of 24: no tumour and the three grades alike; half of grade 3 is small cell carcinoma."""

NECROSIS_RANGES = {"absent": (0.0, 0.0), "focal": (0.05, 0.12), "extensive": (0.27, 0.45)}
LYMPHOCYTE_RANGES = {"sparse": (20.0, 120.0), "moderate": (500.0, 800.0), "dense": (1650.0, 2600.0)}
MITOSIS_RANGES = {"low": (0.0, 4.0), "moderate": (20.0, 35.0), "high": (75.0, 110.0)}

# A benign slide has no necrosis and few mitoses. Among tumours those two levels are therefore dealt less
# often (4 in 24, the others 10), so that over all slides each level is about a third.
_SKEWED = (4, 10, 10)
_EVEN = (8, 8, 8)


@dataclass(frozen=True)
class StainSpec:
    """Dyes and scanner of one slide."""

    name: str
    haematoxylin: tuple[float, float, float]
    """Optical density (natural log) of one unit of haematoxylin in R, G, B."""
    eosin: tuple[float, float, float]
    """Optical density of one unit of eosin."""
    haematoxylin_gain: float
    eosin_gain: float
    white: tuple[float, float, float]
    """Colour of empty glass, 0-255."""
    blur: float
    """Weight of each neighbour in the scanner's 3-tap blur, 0-0.25."""
    noise: float
    """Standard deviation of sensor noise in grey levels."""
    gamma: float
    jpeg_quality: int


@dataclass(frozen=True)
class SlideSpec:
    """One slide to be drawn."""

    seed: int
    index: int
    mpp: float
    width: int
    """Level-0 px, a multiple of 64."""
    height: int
    diagnosis: str
    grade: int | None
    tumour_share: float
    """Of the tissue; 0 when benign."""
    necrosis_share: float
    """Of tumour + necrosis."""
    lymphocytes_per_mm2: float
    mitoses_per_mm2: float
    form: str
    """"resection" (one or two blobs) or "core" (needle biopsies)."""
    artefact: str | None
    """"pen", "fold" or None."""
    stain: StainSpec

    @property
    def name(self) -> str:
        """File stem: says nothing of what the slide shows."""
        return f"phantom_{self.seed}_{self.index:05d}"

    @property
    def cell_px(self) -> int:
        """Side in px of a cell of the truth maps: 16 µm."""
        return round(16.0 / self.mpp)

    def rng(self, stream: int) -> np.random.Generator:
        """An independent generator for one part of the drawing."""
        return np.random.default_rng([self.seed, self.index, stream])


def _deal(seed: int, index: int, deck: int, counts: tuple[int, ...]) -> int:
    """Which item the `index`-th slide draws when each item lies `counts` times in a reshuffled deck."""
    cards = np.repeat(np.arange(len(counts)), counts)
    block, place = divmod(index, len(cards))
    return int(np.random.default_rng([seed, 1000 + deck, block]).permutation(cards)[place])


def sample_spec(seed: int, index: int) -> SlideSpec:
    """The specification of slide `index` of the cohort with this seed."""
    diagnosis, grade = OUTCOMES[_deal(seed, index, 0, (1,) * len(OUTCOMES))]
    rng = np.random.default_rng([seed, index, 0])
    tumour = grade is not None
    necrosis = NECROSIS_LEVELS[_deal(seed, index, 1, _SKEWED)] if tumour else "absent"
    mitoses = MITOSIS_LEVELS[_deal(seed, index, 2, _SKEWED)] if tumour else "low"
    lymphocytes = LYMPHOCYTE_LEVELS[_deal(seed, index, 3, _EVEN)]
    mpp = 0.25 if rng.random() < 0.3 else 0.5
    low, high = (3900, 5000) if mpp == 0.25 else (3500, 5000)
    width, height = (int(rng.integers(low // 64, high // 64 + 1)) * 64 for _ in range(2))
    return SlideSpec(
        seed=seed,
        index=index,
        mpp=mpp,
        width=width,
        height=height,
        diagnosis=diagnosis,
        grade=grade,
        tumour_share=float(rng.uniform(0.3, 0.75)) if tumour else 0.0,
        necrosis_share=float(rng.uniform(*NECROSIS_RANGES[necrosis])),
        lymphocytes_per_mm2=float(rng.uniform(*LYMPHOCYTE_RANGES[lymphocytes])),
        mitoses_per_mm2=float(rng.uniform(*MITOSIS_RANGES[mitoses])) if tumour else 0.0,
        form="core" if rng.random() < 0.3 else "resection",
        artefact=str(rng.choice(["pen", "fold"])) if rng.random() < 0.1 else None,
        stain=_sample_stain(rng),
    )


_DYES = {
    "violet": ((0.86, 1.00, 0.46), (0.10, 0.82, 0.36)),
    "blue": ((0.98, 0.94, 0.38), (0.09, 0.74, 0.30)),
    "magenta": ((0.80, 1.05, 0.50), (0.07, 0.92, 0.34)),
    "orange": ((0.95, 0.98, 0.52), (0.10, 0.76, 0.52)),
}


def _sample_stain(rng: np.random.Generator) -> StainSpec:
    """A laboratory's dyes with small variations, and a scanner."""
    name = str(rng.choice(list(_DYES)))
    dyes = [tuple((np.array(dye) * rng.uniform(0.93, 1.07, 3)).tolist()) for dye in _DYES[name]]
    white = rng.uniform(236, 249) + rng.uniform(-4, 3, 3)
    return StainSpec(
        name=name,
        haematoxylin=dyes[0],
        eosin=dyes[1],
        haematoxylin_gain=float(rng.uniform(0.8, 1.2)),
        eosin_gain=float(rng.uniform(0.75, 1.25)),
        white=tuple(np.clip(white, 225, 252).tolist()),
        blur=float(rng.uniform(0.05, 0.2)),
        noise=float(rng.uniform(0.8, 3.0)),
        gamma=float(rng.uniform(0.92, 1.1)),
        jpeg_quality=int(rng.integers(75, 91)),
    )
