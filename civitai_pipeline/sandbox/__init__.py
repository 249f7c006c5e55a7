"""An embedded stand-in for the CivitAI API, for the demo, for development and for tests.

It speaks real HTTP on loopback, serves a seeded synthetic dataset or items from a file, and can be
told to misbehave in every way the real API has been seen to.
"""

from __future__ import annotations

from civitai_pipeline.sandbox.dataset import DEMO_VERSIONS
from civitai_pipeline.sandbox.faults import FAULT_NAMES, Fault, FaultRule, FaultSchedule
from civitai_pipeline.sandbox.options import SandboxError, SandboxOptions
from civitai_pipeline.sandbox.server import RecordedRequest, Sandbox
from civitai_pipeline.sandbox.world import World

__all__ = [
    "DEMO_VERSIONS",
    "FAULT_NAMES",
    "Fault",
    "FaultRule",
    "FaultSchedule",
    "RecordedRequest",
    "Sandbox",
    "SandboxError",
    "SandboxOptions",
    "World",
]
