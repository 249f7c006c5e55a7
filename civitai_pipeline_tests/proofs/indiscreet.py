"""The process that tells all it knows: collections with every log at its loudest, and every repr and traceback printed.

``python -m civitai_pipeline_tests.proofs.indiscreet PLAN`` collects from each address of a plan, one after the other,
recorded in the Dagster instance.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import traceback
from pathlib import Path

from civitai_pipeline import launch
from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore, NoProgress, client_for
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.settings import load_settings


def main(plan: str) -> None:
    """Collects one version from each address."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    prepare_home(Path(os.environ["DAGSTER_HOME"]))
    for number, url in enumerate(json.loads(Path(plan).read_text(encoding="utf-8")), start=1):
        os.environ["CIVITAI_BASE_URL"] = url
        settings = load_settings()
        client = client_for(settings)
        for ask in (client.model, client.model_version):
            try:
                sys.stdout.write(f"{ask(number)!r}\n")
            except ApiFailure as failure:
                # Pickled, as what a process of a pool raises is.
                sys.stdout.write(repr(pickle.dumps(failure.args)) + "".join(traceback.format_exception(failure)))
        run = launch.collect(number, CollectOptions(page_size=20), NoProgress(), log_level="DEBUG")
        told = (settings, client, vars(client)["_session"].auth, CivitaiApi(), LakeStore(), run.summary, run.failures)
        sys.stdout.write(f"{told!r}\n")


if __name__ == "__main__":
    main(sys.argv[1])
