"""Sensors: what looks after the collections every so often. All are off until somebody turns them on.

Each only gathers what is known and carries out what ``upkeep`` decides; when a version gets a run is
decided there.
"""

from civitai_pipeline.defs.sensors.discovery import discover_model_versions
from civitai_pipeline.defs.sensors.repair import repair_dead_runs
from civitai_pipeline.defs.sensors.resumption import resume_collection
from civitai_pipeline.defs.sensors.telling import tell_of_failures

SENSORS = [resume_collection, discover_model_versions, repair_dead_runs, tell_of_failures]

__all__ = ["SENSORS", "discover_model_versions", "repair_dead_runs", "resume_collection", "tell_of_failures"]
