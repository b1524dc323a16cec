"""The reference accepts and refuses the same log records."""

import pytest

from tests.unit.schemas import test_log_records


def reference_accepts(data: bytes) -> bool:
    logging = pytest.importorskip("lsst.daf.butler.logging")
    capture = pytest.importorskip("lsst.pipe.base.log_capture")
    try:
        log = logging.ButlerLogRecords.from_raw(data)
        if log.extra:
            assert not capture._ExecutionLogRecordsExtra.model_validate(log.extra).logs
    except (ValueError, AssertionError):
        return False
    return True


def test_the_reference_accepts_and_refuses_the_same() -> None:
    for name, (data, records, extra) in test_log_records.LAYOUTS.items():
        assert reference_accepts(data), name
        log = pytest.importorskip("lsst.daf.butler.logging").ButlerLogRecords.from_raw(data)
        assert len(log) == len(records), name
        assert (
            extra.items() <= {**test_log_records.NO_EXTRA, **log.extra}.items()
            or "constants" in name
            or "infinite" in name
        ), name
    for changes in test_log_records.LENIENT:
        assert all(map(reference_accepts, test_log_records.in_layouts(test_log_records.record(**changes)))), (
            changes
        )
    for changes in test_log_records.REFUSED:
        assert not any(
            map(reference_accepts, test_log_records.in_layouts(test_log_records.record(**changes)))
        ), changes
    for name, data in test_log_records.BROKEN.items():
        assert not reference_accepts(data), name
    for name, extra in test_log_records.BROKEN_EXTRA.items():
        assert not any(map(reference_accepts, test_log_records.extra_layouts(extra))), name
