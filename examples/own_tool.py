"""A tool of your own beside the five: how dark is the tissue in a box?

A tool is a function that takes a workbench (slide, model, tissue) and its arguments, and returns an
`Observation`: text that is complete without the image, and the figures behind it.

    python examples/own_tool.py slide.tiff
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from core_model import load_model, open_slide
from tools import Toolbox
from tools.records import Observation, ZoomArgs
from tools.workbench import Workbench


def darkness(bench: Workbench, args: ZoomArgs) -> Observation:
    """The mean optical density of a box; a box that leaves the slide raises `BoxError`."""
    bench.slide.check(args.box)
    rgb = np.asarray(bench.slide.read(args.box, args.mpp), np.float32)  # (H, W, 3)
    density = float(-np.log10((rgb + 1) / 256).mean())
    share = bench.tissue.share(args.box)
    text = f"Mean optical density {density:.2f}; tissue covers {share:.0%} of the box."
    return Observation(tool="darkness", text=text, box=args.box, mpp=args.mpp, data={"density": density})


class MyToolbox(Toolbox):
    """The five tools, and `darkness`."""

    def call(self, name: str, args: Mapping[str, Any]) -> Observation:
        """Run a tool by name."""
        if name == "darkness":
            return darkness(self, ZoomArgs.model_validate(dict(args)))
        return super().call(name, args)


def main(path: str) -> list[Observation]:
    """Measure every piece of tissue."""
    with open_slide(path) as slide:
        tools = MyToolbox(slide, load_model("mini"))
        pieces = tools.tissue.boxes()
        observations = [tools.call("darkness", {"box": piece, "mpp": 8.0}) for piece in pieces]
    for observation in observations:
        print(observation.box, observation.text)
    return observations


if __name__ == "__main__":
    main(sys.argv[1])
