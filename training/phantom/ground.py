"""What lies between the nuclei: cytoplasm, fibres, keratin, necrosis and empty space.

Concentrations are kept on the field grid (h, w) and enlarged block by block; edges of empty space are
sharpened and fine textures added at full resolution.

Letters: (h, w) rows and columns of the field grid or of a window of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.phantom.architecture import Architecture, Material
from training.phantom.fields import Field, smooth_noise
from training.phantom.layout import FIELD_PX, Layout
from training.phantom.spec import ADENO, PAPILLARY, SMALL, SQUAMOUS, SlideSpec

Window = tuple[slice, slice]

_EPITHELIUM = {  # haematoxylin, eosin of tumour cytoplasm
    ADENO: (0.20, 0.42),
    SQUAMOUS: (0.06, 0.72),
    PAPILLARY: (0.14, 0.50),
    SMALL: (0.26, 0.18),
}


@dataclass(frozen=True)
class Ground:
    """Planes on the field grid, each (h + 2, w + 2): one cell of margin on every side."""

    haematoxylin: Field
    eosin: Field
    clear: Field
    """1 where there is nothing, 0 in tissue."""
    fibre: Field
    """Strength of fibres: 1 in stroma."""
    grain: Field
    """Strength of coarse grain: 1 in necrosis."""
    phase: Field
    """Phase of the fibres in radians."""
    stretch: float
    """How many phases the finer bundles run faster."""

    def empty(self, field: Window) -> bool:
        """Whether a window of the field grid (without margin) is bare glass."""
        rows, columns = field
        window = (slice(rows.start, rows.stop + 2), slice(columns.start, columns.stop + 2))
        return bool((self.clear[window] > 0.999).all() and (self.eosin[window] < 0.02).all())

    def concentrations(self, field: Window, fine: Field, coarse: Field) -> tuple[Field, Field, Field]:
        """Haematoxylin, eosin and share of tissue of a window at full resolution, with 1 px of margin.

        `fine` and `coarse` are textures of the result's shape (4 h + 2, 4 w + 2).
        """
        planes = {name: _enlarge4(getattr(self, name), field) for name in PLANES}
        clear = np.clip((planes["clear"] - 0.5) * 2.2 + 0.5, 0, 1)
        fibre = planes["fibre"]
        phase = planes["phase"]
        phase = phase + 0.5 * coarse
        waves = np.sin(phase) * 0.6 + np.sin(phase * np.float32(self.stretch) + 0.8 * fine) * 0.4
        eosin = planes["eosin"] * (
            1 + fibre * (0.3 * waves - 0.05) + 0.09 * fine + planes["grain"] * 0.2 * coarse
        )
        haematoxylin = planes["haematoxylin"] * (1 + 0.2 * fine + planes["grain"] * 0.3 * coarse)
        tissue = 1 - clear
        return np.maximum(haematoxylin * tissue, 0), np.maximum(eosin * tissue, 0.01), tissue


PLANES = ("haematoxylin", "eosin", "clear", "fibre", "grain", "phase")


def _enlarge4(plane: Field, field: Window) -> Field:
    """A window of a padded plane, 4 times as large by linear interpolation, with 1 px of margin."""
    rows, columns = field
    window = plane[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
    return _stretch4(_stretch4(window).T).T


def _stretch4(window: Field) -> Field:
    """Interpolate (n + 2, m) to (4 n + 2, m) along the first axis."""
    step = window[1:] - window[:-1]  # (n + 1, m)
    finer = np.empty((step.shape[0], FIELD_PX, window.shape[1]), np.float32)
    for k in range(FIELD_PX):
        # Pixel k of the four that lie between two cell centres.
        finer[:, k] = window[:-1] + step * np.float32((k + 0.5) / FIELD_PX)
    # The first pixel of cell 1 is the third between centres 0 and 1; one px of margin goes before it.
    return finer.reshape(-1, window.shape[1])[1:-1]


def make_ground(spec: SlideSpec, layout: Layout, building: Architecture, phase: Field) -> Ground:
    """The planes of a slide."""
    rng = spec.rng(5)
    um = layout.um
    tone = smooth_noise(rng, layout.shape, 60 / um)
    tables = _tables(spec, rng)
    material = building.material
    haematoxylin = tables[0][material] * (1 + 0.12 * tone)
    eosin = tables[1][material] * (1 + 0.10 * smooth_noise(rng, layout.shape, 35 / um) + 0.05 * tone)
    eosin += np.where(material == Material.STROMA, 0.05 * smooth_noise(rng, layout.shape, 9 / um), 0).astype(
        np.float32
    )
    _draw_pearls(rng, eosin, building, um)
    if spec.artefact == "fold":
        fold = 1 + 0.9 * _fold(rng, layout)
        haematoxylin, eosin = haematoxylin * fold, eosin * fold
    planes = {
        "haematoxylin": haematoxylin,
        "eosin": eosin,
        "clear": ndimage.gaussian_filter((material == Material.CLEAR).astype(np.float32), 0.8),
        "fibre": (material == Material.STROMA).astype(np.float32),
        "grain": ndimage.uniform_filter((material == Material.NECROSIS).astype(np.float32), 5),
        "phase": phase,
    }
    with_margin = {name: np.pad(plane.astype(np.float32), 1, mode="edge") for name, plane in planes.items()}
    return Ground(**with_margin, stretch=float(rng.uniform(2.2, 3.2)))


def _tables(spec: SlideSpec, rng: np.random.Generator) -> tuple[Field, Field]:
    """Haematoxylin and eosin of each material."""
    vary = rng.uniform(0.9, 1.1, 6)
    tumour = _EPITHELIUM.get(spec.diagnosis, (0.0, 0.0))
    rising = 0.05 * ((spec.grade or 1) - 1)  # less mature cytoplasm is bluer
    haematoxylin = np.zeros(len(Material), np.float32)
    eosin = np.zeros(len(Material), np.float32)
    for material, h, e in (
        (Material.CLEAR, 0.0, 0.012),
        (Material.STROMA, 0.05, 0.46),
        (Material.NECROSIS, 0.14, 0.58),
        (Material.NORMAL, 0.10, 0.27),
        (Material.TUMOUR, tumour[0] + rising, tumour[1] * (1.1 - rising)),
        (Material.KERATIN, 0.02, 1.05),
    ):
        haematoxylin[material], eosin[material] = h * vary[0], e * vary[material]
    return haematoxylin, eosin


def _draw_pearls(rng: np.random.Generator, eosin: Field, building: Architecture, um: float) -> None:
    """Concentric lamellae of keratin."""
    for x, y, radius in building.pearls:
        reach = radius * 1.4
        rows = slice(max(int(y - reach), 0), min(int(y + reach) + 2, eosin.shape[0]))
        columns = slice(max(int(x - reach), 0), min(int(x + reach) + 2, eosin.shape[1]))
        dy = np.arange(rows.start, rows.stop)[:, None] - y
        dx = np.arange(columns.start, columns.stop)[None, :] - x
        theta = np.arctan2(dy, dx)
        wobble = 1.2 * np.sin(2 * theta + rng.uniform(0, 6)) + 0.8 * np.sin(3 * theta + rng.uniform(0, 6))
        rings = np.sin(np.hypot(dx, dy) * um * (2 * np.pi / 7.0) + wobble)
        keratin = building.material[rows, columns] == Material.KERATIN
        patch = eosin[rows, columns]
        patch[keratin] *= (1 + 0.42 * rings[keratin]).astype(np.float32)


def _fold(rng: np.random.Generator, layout: Layout) -> npt.NDArray[np.float32]:
    """A narrow winding band where the section lies twofold."""
    height, width = layout.shape
    line = np.linspace(0, 1, width, dtype=np.float32)
    middle = height * (
        rng.uniform(0.3, 0.7)
        + rng.uniform(-0.3, 0.3) * (line - 0.5)
        + 0.03 * np.sin(line * rng.uniform(8, 14))
    )
    distance = np.abs(np.arange(height, dtype=np.float32)[:, None] - middle[None, :]) * layout.um
    return np.clip((float(rng.uniform(14, 26)) - distance) / 4, 0, 1).astype(np.float32)
