"""The pipeline of synthetic runs: tasks and dataset types, in topological order."""

import dataclasses
from typing import Final

from aggregator.schemas.graphs import pipeline as formats
from aggregator.synthesis import survey_data_ids

TASK_CLASS: Final = "lsst.pipe.base.tests.mocks.DynamicTestPipelineTask"
"""Class of all tasks: one that the reference's own packages have, so that it opens the graphs.

Aggregation imports no task classes, neither ours nor the reference's.
"""

TABLE: Final = "ArrowAstropy"
PIXELS: Final = "NumpyArray"
"""Storage class of images: one whose formatter the reference's own packages have."""

MAPPING: Final = "StructuredDataDict"


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """An input connection."""

    connection: str
    """Its name."""

    dataset_type: str
    """What it reads."""

    reach: str
    """Which datasets each quantum reads (`reaches.REACHES`)."""

    multiple: bool = False
    """Whether there can be more than one."""

    prerequisite: bool = False
    """Whether it must exist before the pipeline is planned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """An output connection; there is one dataset, with the quantum's data ID."""

    connection: str
    """Its name."""

    dataset_type: str
    """What it writes."""

    storage_class: str
    """Storage class."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A task of the pipeline."""

    label: str
    """Its label."""

    kind: str
    """Kind of its data IDs (`data_ids.KINDS`)."""

    inputs: tuple[Input, ...]
    """Regular and prerequisite inputs."""

    outputs: tuple[Output, ...]
    """Outputs but metadata and log."""

    init_inputs: tuple[Output, ...] = ()
    """What its initialisation reads."""

    init_outputs: tuple[Output, ...] = ()
    """What its initialisation writes, besides the configuration."""

    seconds: float = 20.0
    """Typical time that a quantum takes."""

    weight: float = 1.0
    """Size of its logs and metadata compared with other tasks."""

    @property
    def all_outputs(self) -> tuple[Output, ...]:
        """Outputs of a quantum with metadata and log, in the order of the graph."""
        return (
            *self.outputs,
            Output(formats.METADATA_CONNECTION, f"{self.label}_metadata", "TaskMetadata"),
            Output(formats.LOG_CONNECTION, f"{self.label}_log", "ButlerLogRecords"),
        )

    @property
    def all_init_outputs(self) -> tuple[Output, ...]:
        """Outputs of the initialisation with the configuration, in the order of the graph."""
        config = Output(formats.CONFIG_CONNECTION, f"{self.label}_config", "Config")
        return (*self.init_outputs, config)


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetType:
    """A dataset type of the pipeline."""

    name: str
    """Its name."""

    kind: str
    """Kind of its data IDs."""

    storage_class: str
    """Storage class."""

    run: str | None = None
    """Collection that overall inputs are in; nothing for what the pipeline produces."""

    is_prerequisite: bool = False
    """Whether it is read through prerequisite connections."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Dimensions, as a task would declare them."""
        return survey_data_ids.KINDS[self.kind].dimensions


_RAW = "SynthCam/raw/all"
_CALIBRATIONS = "SynthCam/calib"

OVERALL_INPUTS: Final = (
    DatasetType("raw", "exposure", "Exposure", _RAW),
    DatasetType("bias", "detector", "ExposureF", _CALIBRATIONS, True),
    DatasetType("defects", "detector", "Defects", _CALIBRATIONS, True),
    DatasetType("flat", "flat", "ExposureF", _CALIBRATIONS, True),
    DatasetType("star_catalog", "shard", "SimpleCatalog", "refcats", True),
    DatasetType("skyMap", "sky", "SkyMap", "skymaps"),
)
"""Dataset types that exist before; nothing ever opens their files."""

_SCHEMA = Output("schema", "source_schema", MAPPING)

TASKS: Final = (
    Task(
        "isr",
        "exposure",
        (
            Input("raw", "raw", "same"),
            Input("bias", "bias", "detector", prerequisite=True),
            Input("defects", "defects", "detector", prerequisite=True),
            Input("flat", "flat", "flat", prerequisite=True),
        ),
        (Output("exposure", "post_isr_image", PIXELS),),
        seconds=25.0,
        weight=0.8,
    ),
    Task(
        "calibrate",
        "processed",
        (
            Input("exposure", "post_isr_image", "same"),
            Input("reference", "star_catalog", "shards", multiple=True, prerequisite=True),
        ),
        (
            Output("background", "background", MAPPING),
            Output("image", "calibrated_image", PIXELS),
            Output("sources", "sources", TABLE),
        ),
        init_outputs=(_SCHEMA,),
        seconds=120.0,
        weight=1.5,
    ),
    Task(
        "transform",
        "processed",
        (
            Input("background", "background", "same"),
            Input("image", "calibrated_image", "same"),
            Input("sources", "sources", "same"),
        ),
        (Output("table", "source_table", TABLE),),
        init_inputs=(_SCHEMA,),
        seconds=8.0,
        weight=0.7,
    ),
    Task(
        "summarize",
        "visit",
        (Input("sources", "sources", "exposures of visit", multiple=True),),
        (Output("summary", "visit_summary", TABLE),),
        seconds=30.0,
        weight=1.2,
    ),
    Task(
        "warp",
        "warp",
        (
            Input("images", "calibrated_image", "exposures of warp", multiple=True),
            Input("sky", "skyMap", "sky"),
            Input("summary", "visit_summary", "visit of warp"),
        ),
        (Output("warp", "warped_image", PIXELS),),
        seconds=60.0,
    ),
    Task(
        "coadd",
        "coadd",
        (
            Input("sky", "skyMap", "sky"),
            Input("warps", "warped_image", "warps of coadd", multiple=True),
        ),
        (Output("image", "coadd_image", PIXELS), Output("peaks", "coadd_peaks", TABLE)),
        seconds=900.0,
        weight=2.0,
    ),
    Task(
        "merge",
        "patch",
        (Input("peaks", "coadd_peaks", "bands of patch", multiple=True), Input("sky", "skyMap", "sky")),
        (Output("objects", "merged_objects", TABLE),),
        seconds=40.0,
    ),
    Task(
        "forced",
        "coadd",
        (Input("image", "coadd_image", "same"), Input("objects", "merged_objects", "patch of coadd")),
        (Output("plot", "forced_plot", "Plot"), Output("table", "forced_table", TABLE)),
        seconds=300.0,
        weight=1.3,
    ),
    Task(
        "gather",
        "tract",
        (Input("tables", "forced_table", "coadds of tract", multiple=True),),
        (Output("objects", "object_table", TABLE),),
        seconds=200.0,
        weight=3.0,
    ),
    Task(
        "report",
        "night",
        (Input("summaries", "visit_summary", "visits of night", multiple=True),),
        (Output("metrics", "night_metrics", "MetricMeasurementBundle"),),
        seconds=15.0,
    ),
)
"""Tasks in pipeline order."""


def _produced() -> tuple[DatasetType, ...]:
    dataset_types = []
    for task in TASKS:
        dataset_types += [
            DatasetType(each.dataset_type, "nothing", each.storage_class) for each in task.all_init_outputs
        ]
        dataset_types += [
            DatasetType(each.dataset_type, task.kind, each.storage_class) for each in task.all_outputs
        ]
    return tuple(dataset_types)


DATASET_TYPES: Final = {each.name: each for each in (*OVERALL_INPUTS, *_produced())}
"""All dataset types but `packages`, by name."""

INPUT_CHAIN: Final = "SynthCam/defaults"
INPUT_RUNS: Final = (_RAW, _CALIBRATIONS, "refcats", "skymaps")
OUTPUT_CHAIN: Final = "u/synthetic/campaign"
OUTPUT_RUN: Final = "u/synthetic/campaign/20260302T000000Z"
