"""Numbers on images: a function, and the task that a policy makes of it. See docs/example.md."""

import numpy as np

from aggregator import stages


def measure(image):
    """Return numbers on an image."""
    return {"median": float(np.median(image)), "noise": float(np.std(image))}


Quality = stages.task("quality.yaml", measure)
