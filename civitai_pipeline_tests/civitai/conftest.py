from __future__ import annotations

import pytest

from civitai_pipeline.civitai import client


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real one waits 16 s over five tries; what the doubling is, test_client_bounds.py checks.
    monkeypatch.setattr(client, "FIRST_BACKOFF_S", 0.001)
