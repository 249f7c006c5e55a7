"""What is asked for before the first of the proofs begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from civitai_pipeline_tests.report.browser import MAC, NO_CHROMIUM

from .all import PROOFS, what_is_missing


@pytest.mark.skipif(Path(MAC).is_file(), reason="Chromium is found here without PATH")
def test_a_missing_chromium_is_told_where_a_proof_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert what_is_missing(["soak", "kill"]) is None
    for names in (PROOFS, ["soak", "hostile"]):
        said = what_is_missing(names)
        assert said is not None
        assert said.startswith(NO_CHROMIUM)
        assert said.endswith("without hostile")
    monkeypatch.setenv("CHROMIUM", "/somewhere/chromium")
    assert what_is_missing(PROOFS) is None
