"""Waiting for a place in the pool of those who ask the API, for a step that seldom needs one.

A step that is declared to be in a pool waits for its place whether or not it has anything to ask: behind another
version's whole collection, if there is one. This does what Dagster does for such a step, when it is needed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from civitai_pipeline.defs.assets.common import API_POOL

LOOK_EVERY_S = 1.0
# A step declared to be in the pool has 0: who is half done goes before who begins.
PRIORITY = 1


@contextmanager
def turn_at_the_api(
    instance: dg.DagsterInstance, run_id: str, step_key: str, on_wait: Callable[[], None]
) -> Iterator[None]:
    """Holds a place in the pool; waits for it as long as it takes.

    Args:
        instance: Where the pool is kept.
        run_id: The run that the place is for; when it ends, its places are freed, however it ends.
        step_key: Its step.
        on_wait: Called once if there is no place yet.
    """
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        yield
        return
    if API_POOL not in storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(API_POOL)
    # Dagster makes no pool where the instance gives it no limit, and then nobody waits.
    limited = API_POOL in storage.get_concurrency_keys()
    told = False
    try:
        while limited and not storage.claim_concurrency_slot(API_POOL, run_id, step_key, PRIORITY).is_claimed:
            if not told:
                on_wait()
            told = True
            time.sleep(LOOK_EVERY_S)
        yield
    finally:
        storage.free_concurrency_slot_for_step(run_id, step_key)
