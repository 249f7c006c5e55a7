"""Which records of runs may go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.upkeep.retention import EndedRun, expired

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def run(run_id: str, days: float, job: str = "collect", partition: str | None = "1") -> EndedRun:
    return EndedRun(run_id, job, partition, NOW - timedelta(days=days))


def ids(runs: list[EndedRun]) -> list[str]:
    return [run.run_id for run in runs]


def test_old_runs_go_but_the_last_of_each_job_and_version() -> None:
    runs = [
        run("young", 1), run("old", 100), run("older", 200),
        run("last of 2", 300, partition="2"), run("older of 2", 400, partition="2"),
        run("last rebuild", 500, job="rebuild"), run("of none", 600, job="upkeep", partition=None),
    ]  # fmt: skip
    assert ids(expired(runs, (), NOW, keep_days=90, keep_runs=1)) == ["older of 2", "older", "old"]
    assert ids(expired(runs, (), NOW, keep_days=90, keep_runs=2)) == ["older"]
    assert ids(expired(runs, {"older"}, NOW, keep_days=90, keep_runs=1)) == ["older of 2", "old"]
    assert ids(expired(runs, (), NOW, keep_days=150, keep_runs=1)) == ["older of 2", "older"]


RUNS = st.lists(
    st.tuples(st.floats(0, 400), st.sampled_from(["collect", "rebuild"]), st.sampled_from([None, "1", "2"])),
    max_size=30,
).map(lambda drawn: [run(str(n), days, job, partition) for n, (days, job, partition) in enumerate(drawn)])


@given(RUNS, st.floats(0, 400), st.integers(1, 3), st.sets(st.integers(0, 30).map(str)))
def test_what_goes_is_old_unneeded_and_never_the_last(
    runs: list[EndedRun], keep_days: float, keep_runs: int, needed: set[str]
) -> None:
    gone = expired(runs, needed, NOW, keep_days=keep_days, keep_runs=keep_runs)
    left = [one for one in runs if one not in gone]
    assert not needed & set(ids(gone))
    assert all(NOW - one.ended_at >= timedelta(days=keep_days) for one in gone)
    for key in {(one.job, one.partition) for one in runs}:
        mine = [one for one in runs if (one.job, one.partition) == key]
        kept = [one for one in left if (one.job, one.partition) == key]
        assert len(kept) >= min(keep_runs, len(mine))
        newest = max(one.ended_at for one in mine)
        assert any(one.ended_at == newest for one in kept)
    assert expired(left, needed, NOW, keep_days=keep_days, keep_runs=keep_runs) == []
