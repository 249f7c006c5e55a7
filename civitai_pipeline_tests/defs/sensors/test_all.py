"""What holds for every sensor."""

from __future__ import annotations

import dagster as dg

from civitai_pipeline.defs.sensors import (
    SENSORS,
    discover_model_versions,
    resume_collection,
)

from .ticking import DEFS


def test_all_are_off_until_somebody_turns_them_on() -> None:
    assert {sensor.default_status for sensor in SENSORS} == {dg.DefaultSensorStatus.STOPPED}
    assert all(sensor.description for sensor in SENSORS)
    dg.Definitions.validate_loadable(
        DEFS if DEFS.sensors else dg.Definitions.merge(DEFS, dg.Definitions(sensors=SENSORS))
    )
    assert (resume_collection.minimum_interval_seconds, discover_model_versions.minimum_interval_seconds) == (60, 3600)
