"""The breakages can still be made, and there is one for each proof; whether they are caught is ``make breakages``."""

from __future__ import annotations

import ast

import pytest

from .all import PROOFS
from .breakages import BREAKAGES, Breakage
from .warm import ROOT


@pytest.mark.parametrize("breakage", BREAKAGES, ids=[breakage.what for breakage in BREAKAGES])
def test_what_is_broken_is_there_and_can_be_read_afterwards(breakage: Breakage) -> None:
    before = (ROOT / "civitai_pipeline" / breakage.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(breakage.broken(before))) != ast.dump(ast.parse(before))


def test_each_proof_has_something_to_notice() -> None:
    assert {breakage.proof for breakage in BREAKAGES} == set(PROOFS)


def test_code_that_has_changed_is_told() -> None:
    with pytest.raises(ValueError, match=r"lake/pages\.py has changed, so nothing would be broken: 'gone'"):
        Breakage("damage", "", "lake/pages.py", ((" gone ", ""),), "").broken("other code")
