"""Slices are processes, each with a clipboard of its own (stages.md section 3)."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from aggregator.stages import clipboards, locations, slices, stage
from aggregator.stages.policies import policy
from aggregator.storage import errors


class Noting(stage.SerialProcessing):
    """Notes in the clipboard what the master does, and what the slices have left by then."""

    def note(self, clipboard: clipboards.Clipboard, what: str) -> None:
        names = sorted(os.listdir(self.policy.required("directory", str)))
        clipboard.get("notes").append((self.name, what, self.rank, self.stage_id, names))

    def preprocess(self, clipboard: clipboards.Clipboard) -> None:
        self.note(clipboard, "preprocess")

    def postprocess(self, clipboard: clipboards.Clipboard) -> None:
        self.note(clipboard, "postprocess")


class Writing(stage.ParallelProcessing):
    """Writes a file about each turn of each slice."""

    def process(self, clipboard: clipboards.Clipboard) -> None:
        clipboard.put("own", clipboard.get("own", 0) + 1 + self.rank)
        keys = clipboard.keys()
        items = {key: clipboard.get(key) for key in keys}
        text = f"{items} {self.universe_size} {self.run_id} {os.getpid()} {locations.expand('%(place)', {})}"
        directory = pathlib.Path(self.policy.required("directory", str))
        (directory / f"{self.name}{self.rank}").write_text(text)


class Failing(Writing):
    """Fails, dies or refuses to be made in slice 1, as the policy says."""

    def setup(self) -> None:
        if self.rank == 1 and self.policy.get("how", "") == "setup":
            raise errors.RefusedError("not here")

    def process(self, clipboard: clipboards.Clipboard) -> None:
        super().process(clipboard)
        if self.rank == 1 and self.policy.get("how", "") == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.rank == 1:
            raise ValueError("no good")


def stages(
    tmp_path: pathlib.Path, *kinds: type[stage.ParallelProcessing], how: str = ""
) -> list[stage.Stage]:
    settings = policy.Policy()
    settings.add("directory", str(tmp_path))
    settings.add("how", how)
    return [stage.Stage(settings, Noting, kind, f"s{number}-") for number, kind in enumerate(kinds)]


def queues() -> tuple[clipboards.Queue, clipboards.Queue]:
    clipboard = clipboards.Clipboard()
    clipboard.put("notes", [])
    clipboard.put("given", "x", shared=True)
    result = clipboards.Queue(), clipboards.Queue()
    result[0].add(clipboard)
    return result


def test_each_slice_has_a_process_and_a_clipboard(tmp_path: pathlib.Path) -> None:
    inputs, outputs = queues()
    clipboard = inputs.element()
    locations.set_map({"place": "here"})
    try:
        slices.run(stages(tmp_path, Writing, Writing), inputs, outputs, n_slices=2, run_id="r")
    finally:
        locations.set_map(None)
    assert (len(inputs), outputs.take()) == (0, clipboard)
    first = ["s0-0", "s0-1"]
    both = [*first, "s1-0", "s1-1"]
    assert clipboard.get("notes") == [
        ("s0-", "preprocess", -1, 0, []),
        ("s0-", "postprocess", -1, 0, first),
        ("s1-", "preprocess", -1, 1, first),
        ("s1-", "postprocess", -1, 1, both),
    ]
    assert clipboard.keys() == ["notes", "given"]
    texts = [(tmp_path / name).read_text().rsplit(" ", 2) for name in both]
    assert [text for text, _, _ in texts] == [f"{{'given': 'x', 'own': {own}}} 3 r" for own in (1, 2, 2, 4)]
    assert {place for _, _, place in texts} == {"here"}
    pids = [pid for _, pid, _ in texts]
    assert pids[:2] == pids[2:]
    assert len({*pids, str(os.getpid())}) == 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("", "Stage s1-: slice 1: ValueError: no good"),
        ("kill", "Stage s1-: slice 1 (process "),
        ("setup", "Stage s0-: slice 1: not here"),
    ],
)
def test_a_slice_that_fails_is_named(tmp_path: pathlib.Path, how: str, message: str) -> None:
    inputs, outputs = queues()
    clipboard = inputs.element()
    locations.set_map({"place": "here"})
    with pytest.raises(errors.AggregatorError) as failure:
        slices.run(stages(tmp_path, Writing, Failing, how=how), inputs, outputs, n_slices=2)
    locations.set_map(None)
    assert str(failure.value).startswith(message)
    assert failure.value.exit_code == 1
    assert "killed by SIGKILL" in str(failure.value) or how != "kill"
    # The other slice has finished, and the clipboard is where it was.
    assert (tmp_path / ("s0-0" if how == "setup" else "s1-0")).exists()
    assert (inputs.element(), len(outputs)) == (clipboard, 0)


def test_without_slices_only_the_master_works(tmp_path: pathlib.Path) -> None:
    inputs, outputs = queues()
    slices.run(stages(tmp_path, Failing), inputs, outputs)
    assert [what for _, what, *_ in outputs.element().get("notes")] == ["preprocess", "postprocess"]
    assert os.listdir(tmp_path) == []
    with pytest.raises(errors.AggregatorError, match="There is no clipboard in the queue"):
        slices.run([], inputs, outputs)
