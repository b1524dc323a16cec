"""A small survey: images of a simulated sky, from raw pixels to a summary. See docs/example.md."""

import os
import signal

import numpy as np
from aggregator.execution.plain_tasks import Connection

SIZE = 64
"""Pixels of an image in each direction."""

DETECTOR = ("visit", "detector")
PATCH = ("skymap", "tract", "patch", "band")


class Camera:
    """The instrument."""

    @staticmethod
    def getName():
        """Return the name that its records have."""
        return "Camera"


class Observe:
    """Take an image: stars that are always there, noise that is not, and once a row of dead pixels."""

    dimensions = DETECTOR
    outputs = {"raw": Connection("raw", "NumpyArray", DETECTOR)}
    config = {"stars": 20}

    def __init__(self, config, init_inputs):
        self.config = config

    def run_quantum(self, butler, inputs, outputs):
        """Make the image."""
        visit, detector = butler.data_id["visit"], butler.data_id["detector"]
        sky = np.random.default_rng(detector)
        image = np.random.default_rng(1000 * visit + detector).normal(100.0, 1.0, (SIZE, SIZE))
        for x, y, flux in zip(*sky.integers(0, SIZE, (2, self.config["stars"])), sky.uniform(20, 200, 99)):
            image[y, x] += flux
        if (visit, detector) == (2, 3):
            image[10] = np.nan
        butler.put(image, outputs.raw)


class Calibrate:
    """Take the background away, and find stars."""

    dimensions = DETECTOR
    inputs = {"raw": Connection("raw", "NumpyArray", DETECTOR)}
    outputs = {
        "image": Connection("image", "NumpyArray", DETECTOR),
        "stars": Connection("stars", "StructuredDataDict", DETECTOR),
    }
    config = {"threshold": 5.0, "mend": False}

    def __init__(self, config, init_inputs):
        self.config = config
        self.metadata = {}

    def run_quantum(self, butler, inputs, outputs):
        """Calibrate an image."""
        if os.environ.get("POWER_CUT") and butler.data_id["visit"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        image = butler.get(inputs.raw)
        dead = np.isnan(image)
        if dead.any() and not self.config["mend"]:
            raise ValueError(f"{dead.sum()} pixels are dead")
        image = np.where(dead, np.nanmedian(image), image)
        image = image - np.median(image)
        y, x = np.nonzero(image > self.config["threshold"] * 1.4826 * np.median(np.abs(image)))
        self.metadata = {"stars": len(x), "mended": int(dead.sum())}
        butler.put(image, outputs.image)
        butler.put({"x": x.tolist(), "y": y.tolist(), "flux": image[y, x].tolist()}, outputs.stars)


class Combine:
    """Average all images of a patch of the sky."""

    dimensions = PATCH
    inputs = {"images": Connection("image", "NumpyArray", DETECTOR, multiple=True, deferred=True)}
    outputs = {"coadd": Connection("coadd", "NumpyArray", PATCH)}

    def __init__(self, config, init_inputs):
        pass

    def run_quantum(self, butler, inputs, outputs):
        """Combine images."""
        butler.put(np.mean([butler.get(each).get() for each in inputs.images], axis=0), outputs.coadd)


class Summarize:
    """Plot how bright pixels are, as text."""

    dimensions = ("skymap",)
    inputs = {"coadds": Connection("coadd", "NumpyArray", PATCH, multiple=True)}
    outputs = {"summary": Connection("summary", "StructuredDataDict", ("skymap",))}

    def __init__(self, config, init_inputs):
        pass

    def run_quantum(self, butler, inputs, outputs):
        """Count pixels."""
        values = np.concatenate([butler.get(each).ravel() for each in inputs.coadds])
        counts, edges = np.histogram(values, bins=[-10, 0, 10, 50, 100, 200, 400])
        plot = [
            f"{low:4.0f} .. {high:4.0f} {'*' * int(5 * np.log10(n + 1))}"
            for low, high, n in zip(edges, edges[1:], counts)
        ]
        butler.put({"pixels": int(values.size), "plot": plot}, outputs.summary)
