"""However many files can't be read: the list of them is on disk, and the numbers agree with it."""

import json
import os
import pathlib
import shutil
import signal
import tracemalloc

import pytest
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import unreadable
from aggregator.storage import fault_points

import aggregator
from aggregator.aggregation import aggregation_summary
from aggregator.synthesis import campaign, parameters


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("synthetic") / "run"
    asked = parameters.SynthesisParameters(
        quanta=160, log_size=2000, metadata_size=2000, failed=0.0, blocked=0.0, corrupt=0.25
    )
    campaign.synthesize(str(root), asked, interactive_status=False)
    return root


@pytest.fixture
def run(template: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(template, tmp_path / "run"))


def aggregate(run: pathlib.Path, **options: object) -> aggregator.AggregatorError:
    config = aggregator.AggregatorConfig(n_processes=1, interactive_status=False, **options)
    with pytest.raises(aggregator.AggregatorError) as caught:
        aggregator.aggregate_graph(str(run / campaign.GRAPH), str(run), config)
    return caught.value


def listed(path: pathlib.Path) -> list[str]:
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def test_all_are_listed_and_ten_are_named(run: pathlib.Path) -> None:
    error = aggregate(run)
    done = error.summary
    paths = listed(run / f"{campaign.GRAPH}.checkpoint" / "unreadable.jsonl")
    assert done.n_problems == len(paths) == len(set(paths)) == 40
    assert [p.path for p in done.problems] == paths[:10]
    assert sum(str(path) in str(error) for path in paths) == 10
    assert "40 quanta have files" in str(error)


def test_a_list_without_checkpoint_stays(run: pathlib.Path) -> None:
    done = aggregate(run, checkpoint=False).summary
    assert len(listed(pathlib.Path(done.problem_list))) == done.n_problems
    shutil.rmtree(os.path.dirname(done.problem_list))


def test_an_interrupted_run_lists_what_it_has_judged(
    run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [120]

    def reached(name: str) -> None:
        left[0] -= name == "quantum"
        if name == "quantum" and not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fault_points, "reached", reached)
    done = aggregate(run).summary
    directory = run / f"{campaign.GRAPH}.checkpoint"
    assert 0 < done.n_problems < 40
    assert len(listed(directory / "unreadable.jsonl")) == done.n_problems
    assert not list(directory.glob("*.tmp"))
    monkeypatch.undo()
    assert aggregate(run).summary.n_problems == 40
    assert len(listed(directory / "unreadable.jsonl")) == 40


def test_the_list_goes_when_all_is_mended(run: pathlib.Path) -> None:
    aggregate(run)
    directory = run / f"{campaign.GRAPH}.checkpoint"
    for path in listed(directory / "unreadable.jsonl"):
        os.unlink(path)
    config = aggregator.AggregatorConfig(keep_checkpoint=True, interactive_status=False)
    aggregator.aggregate_graph(str(run / campaign.GRAPH), str(run), config)
    assert not (directory / "unreadable.jsonl").exists()


def test_a_million_of_them_cost_no_memory(tmp_path: pathlib.Path) -> None:
    done, listing = aggregation_summary.empty(()), unreadable.Listing(str(tmp_path))
    tracemalloc.start()
    for shard in range(200):
        problems = [messages.Problem(f"{shard}-{i}", f"/a/{shard}/{i}", "is cut off") for i in range(500)]
        done.add_problems(problems)
        listing.add(problems)
        done.add_conflicts([f"{p.path} is there" for p in problems])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert done.n_problems == done.n_conflicts == 100_000
    listing.publish(str(tmp_path / "list"))
    assert len(listed(tmp_path / "list")) == 100_000
    assert os.listdir(tmp_path) == ["list"]
