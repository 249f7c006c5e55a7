"""Asset checks: what must hold of each partition, whatever the API sent.

Blocking, and an error, only where a broken promise would spread to what is made next; a warning where the
data is sound but somebody should look.
"""

import warnings
from collections.abc import Iterator

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.defs.assets.collection import CONTRACT_BREACHES, CONTRACT_COUNTS, CONTRACT_ODDITIES, image_pages
from civitai_pipeline.defs.assets.lookups import resource_lookups
from civitai_pipeline.defs.events import latest_metadata, latest_summary
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.schemas import Table
from civitai_pipeline.lake.tables import file_faults, read_table
from civitai_pipeline.prompts.items import Outcome

# Checks with partitions are a preview in Dagster 1.13, whose patch version is pinned; without them a result
# would not say which model version it is about.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message="Specifying a partitions_def on an AssetCheck")


def _finding(faults: list[str], metadata: dict[str, int | float]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=not faults, description="; ".join(faults) or None, metadata=metadata)


@dg.asset_check(asset=image_pages, blocking=True, partitions_def=model_version)
def summary_adds_up(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """The six outcomes add up to what was attempted, and the prompts gained are the new ones."""
    summary = latest_summary(context.instance, image_pages.key, context.partition_key)
    if summary is None:
        return _finding(["there is no summary"], {})
    outcomes = sum(summary[outcome.value] for outcome in Outcome)
    gained = summary["prompts_after"] - summary["prompts_before"]
    faults = []
    if outcomes != summary["attempted"]:
        faults.append(f"the outcomes add up to {outcomes}, not to the {summary['attempted']} attempted")
    if gained != summary["new"]:
        faults.append(f"{gained} prompts were gained, but {summary['new']} are new")
    if summary["saved"] != summary["new"] + summary["updated"]:
        faults.append("saved is not new + updated")
    return _finding(faults, {"attempted": summary["attempted"], "outcomes": outcomes, "gained": gained})


@dg.asset_check(asset=image_pages, partitions_def=model_version)
def stopped_as_asked(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """The last run stopped at the end of the data or at a limit that somebody set."""
    summary = latest_summary(context.instance, image_pages.key, context.partition_key)
    reason = None if summary is None else summary["stop_reason"]
    passed = reason is not None and StopReason(reason).is_success
    error = None if summary is None else summary["error"]
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if passed else f"stopped with {reason}: {error}",
        metadata={"stop_reason": reason or "unknown"},
    )


@dg.asset_check(asset=image_pages, partitions_def=model_version)
def api_keeps_its_contract(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """What came back has the fields that the API promises; fails where CivitAI changed, not where data is thin."""
    metadata = latest_metadata(context.instance, image_pages.key, context.partition_key)
    if metadata is None or CONTRACT_COUNTS not in metadata:
        return dg.AssetCheckResult(passed=False, description="the last run did not look at what came back")
    breaches, oddities = metadata[CONTRACT_BREACHES].value, metadata[CONTRACT_ODDITIES].value
    items = metadata[CONTRACT_COUNTS].value["items"]
    no_data = "this version has no images at the levels asked for" if items == 0 else None
    return dg.AssetCheckResult(
        passed=not breaches,
        description="CivitAI changed: " + "; ".join(breaches) if breaches else no_data,
        metadata={"items": items, "breaches": len(breaches), "oddities": oddities},
    )


@dg.asset_check(asset="model_version_info", partitions_def=model_version)
def names_are_known(model_version_info: pa.Table) -> dg.AssetCheckResult:
    """The API could be asked for the version's names at least once."""
    known = model_version_info.column("fetched_at").null_count == 0
    return dg.AssetCheckResult(
        passed=known,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if known else "the API could not be asked yet; names stay empty until a later run",
    )


@dg.asset_check(asset=resource_lookups, partitions_def=model_version)
def lookups_went_through(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """What was to be looked up had an answer, or waits for a later run because a limit was reached."""
    summary = latest_summary(context.instance, resource_lookups.key, context.partition_key) or {}
    if not summary.get("resolve_resources"):
        return dg.AssetCheckResult(passed=True, description="resolve_resources is off")
    reason, failed = summary["stop_reason"], summary["failed"]
    trouble = None if StopReason(reason).is_success else f"stopped with {reason}: {summary['error']}"
    if trouble is None and failed:
        trouble = f"{failed} questions brought no answer; a later run asks them again"
    return dg.AssetCheckResult(
        passed=trouble is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=trouble,
        metadata={"stop_reason": reason, "failed": failed, "left": summary["left"]},
    )


@dg.asset_check(asset="prompts", blocking=True, partitions_def=model_version)
def prompts_are_images_of_the_version(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
    """Each row is another image, has an id and a prompt, and belongs to this version."""
    prompts = _columns(context, store, schemas.PROMPTS, "image_id", "model_version_id")
    ids = prompts.column("image_id")
    repeated = len(ids) - pc.count_distinct(ids, mode="all").as_py()
    version = version_of(context.partition_key)
    foreign = pc.sum(pc.not_equal(prompts.column("model_version_id"), version)).as_py() or 0
    faults = []
    if ids.null_count:
        faults.append(f"{ids.null_count} rows have no image_id")
    if repeated:
        faults.append(f"{repeated} image_ids are repeated")
    if foreign:
        faults.append(f"{foreign} rows are of another model version than {version}")
    return _finding(faults, {"rows": len(ids), "repeated": repeated, "foreign": foreign})


@dg.asset_check(asset="prompt_resources", blocking=True, partitions_def=model_version)
def resources_belong_to_prompts(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
    """Each resource row names an image of the prompts table."""
    return _orphans(context, store, schemas.PROMPT_RESOURCES)


@dg.asset_check(asset="prompt_categories", blocking=True, partitions_def=model_version)
def categories_belong_to_prompts(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
    """Each category row names an image of the prompts table."""
    return _orphans(context, store, schemas.PROMPT_CATEGORIES)


def _columns(context: dg.AssetCheckExecutionContext, store: LakeStore, table: Table, *names: str) -> pa.Table:
    """Some columns of the partition's table; a table's own bytes are mostly in others."""
    return read_table(store.lake(), table, version_of(context.partition_key), names)


def _beside_prompts(
    context: dg.AssetCheckExecutionContext, store: LakeStore, table: Table
) -> tuple[PinnedTable, PinnedTable, dg.AssetCheckResult | None]:
    """A table and the prompts it is to be held against, and what to say instead if they are not of the same pages.

    A run of the same version recorded in another instance may have renewed one of them meanwhile.
    """
    lake, version = store.lake(), version_of(context.partition_key)
    rows, prompts = PinnedTable.of(lake, table, version), PinnedTable.of(lake, schemas.PROMPTS, version)
    covered = [None if each.provenance is None else each.provenance.covered for each in (rows, prompts)]
    if covered[0] == covered[1]:
        return rows, prompts, None
    said = (
        "not compared: another run has renewed the prompts or this table meanwhile; the next run brings both up to date"
    )
    return rows, prompts, dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=said)


def _orphans(context: dg.AssetCheckExecutionContext, store: LakeStore, table: Table) -> dg.AssetCheckResult:
    pinned, prompts, otherwise = _beside_prompts(context, store, table)
    if otherwise is not None:
        return otherwise
    rows = pinned.read(["image_id"])
    known = pc.is_in(rows.column("image_id"), value_set=prompts.read(["image_id"]).column("image_id").combine_chunks())
    orphans = len(rows) - (pc.sum(known).as_py() or 0)
    return _finding([f"{orphans} rows belong to no prompt"] if orphans else [], {"rows": len(rows), "orphans": orphans})


@dg.asset_check(asset="prompt_categories", blocking=True, partitions_def=model_version)
def categories_are_well_formed(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
    """Confidences lie within 0 and 1, and each prompt has exactly one primary category."""
    pinned, prompts, otherwise = _beside_prompts(context, store, schemas.PROMPT_CATEGORIES)
    if otherwise is not None:
        return otherwise
    prompt_categories = pinned.read(["image_id", "confidence", "is_primary"])
    confidence = prompt_categories.column("confidence")
    outside = pc.sum(pc.invert(pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 1.0)))).as_py() or 0
    primary = prompt_categories.filter(prompt_categories.column("is_primary")).column("image_id")
    distinct = pc.count_distinct(primary, mode="all").as_py()
    faults = []
    if outside:
        faults.append(f"{outside} confidences lie outside 0 to 1")
    if len(primary) != distinct:
        faults.append(f"{len(primary) - distinct} images have more than one primary category")
    if distinct != len(prompts):
        faults.append(f"{len(prompts) - distinct} prompts have no primary category")
    return _finding(faults, {"rows": len(prompt_categories), "primary": len(primary), "outside": outside})


@dg.asset_check(asset="near_duplicate_groups", blocking=True, partitions_def=model_version)
def groups_are_those_of_prompts(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
    """Each group of the prompts table is there, with all its images, and is named after one of them."""
    pinned, all_prompts, otherwise = _beside_prompts(context, store, schemas.NEAR_DUPLICATE_GROUPS)
    if otherwise is not None:
        return otherwise
    prompts = all_prompts.read(["image_id", "near_duplicate_group"])
    near_duplicate_groups = pinned.read(["near_duplicate_group", "images"])
    column = prompts.column("near_duplicate_group")
    grouped = len(column) - column.null_count
    groups = near_duplicate_groups.column("near_duplicate_group")
    images = pc.sum(near_duplicate_groups.column("images")).as_py() or 0
    named = pc.sum(pc.is_in(groups, value_set=prompts.column("image_id").combine_chunks())).as_py() or 0
    single = pc.sum(pc.less(near_duplicate_groups.column("images"), 2)).as_py() or 0
    faults = []
    if images != grouped:
        faults.append(f"the groups hold {images} images, not the {grouped} that are in one")
    if named != len(groups):
        faults.append(f"{len(groups) - named} groups are named after no image")
    if single:
        faults.append(f"{single} groups hold a single image")
    return _finding(faults, {"groups": len(groups), "images": images})


_SCHEMA_MATCHES = "The file has the declared columns and types, and no null where none may be."


def _schema_check(table: Table) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="schema_matches",
        asset=table.name,
        blocking=True,
        partitions_def=model_version,
        description=_SCHEMA_MATCHES,
    )
    def schema_matches(context: dg.AssetCheckExecutionContext, store: LakeStore) -> dg.AssetCheckResult:
        faults, rows = file_faults(store.lake(), table, version_of(context.partition_key))
        return _finding(faults, {"rows": rows, "columns": len(table.columns)})

    return schema_matches


# One step for the dozen of them: a step costs more than the check.
@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "schema_matches",
            asset=table.name,
            blocking=True,
            partitions_def=model_version,
            description=_SCHEMA_MATCHES,
        )
        for table in schemas.ANALYSIS_TABLES
    ],
)
def schemas_of_analyses_match(
    context: dg.AssetCheckExecutionContext, store: LakeStore
) -> Iterator[dg.AssetCheckResult]:
    """Each file of the analyses has the declared columns and types."""
    lake, version = store.lake(), version_of(context.partition_key)
    for table in schemas.ANALYSIS_TABLES:
        faults, rows = file_faults(lake, table, version)
        yield dg.AssetCheckResult(
            asset_key=table.name,
            check_name="schema_matches",
            passed=not faults,
            description="; ".join(faults) or None,
            metadata={"rows": rows, "columns": len(table.columns)},
        )


CHECKS = [
    summary_adds_up,
    stopped_as_asked,
    api_keeps_its_contract,
    names_are_known,
    lookups_went_through,
    prompts_are_images_of_the_version,
    resources_belong_to_prompts,
    categories_belong_to_prompts,
    categories_are_well_formed,
    groups_are_those_of_prompts,
    *(_schema_check(table) for table in schemas.TABLES if table not in schemas.ANALYSIS_TABLES),
    schemas_of_analyses_match,
]
