"""What the assets share: owner, groups, and how those that are tables are declared."""

from collections.abc import Callable, Mapping, Sequence

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.metadata import definition_metadata
from civitai_pipeline.defs.partitions import model_version
from civitai_pipeline.lake.schemas import Table
from civitai_pipeline.lake.tables import TableFile

OWNERS = ["team:civitai_pipeline"]
KINDS = {"parquet", "duckdb"}
COLLECTION, TABLES, PUBLICATION = "collection", "tables", "publication"
TABLE_IO_MANAGER = "table_io_manager"
# The key of an input's metadata that asks for the table's rows instead of the table.
STREAMED = "streamed"
# The key under which an input names the columns it needs.
COLUMNS = "columns"
# All requests of all runs pass through one pool; its limit is set in the instance.
API_POOL = "civitai_api"


def table_asset(
    table: Table,
    *,
    group: str,
    code_version: str,
    pool: str | None = None,
    deps: Sequence[dg.AssetsDefinition] = (),
    ins: Mapping[str, dg.AssetIn] | None = None,
) -> Callable[[Callable[..., pa.Table | TableFile]], dg.AssetsDefinition]:
    """Declares an asset that is kept as a table of the lake, partitioned by model version."""
    return dg.asset(
        name=table.name,
        partitions_def=model_version,
        pool=pool,
        deps=deps,
        ins=ins,
        description=_description(table),
        group_name=group,
        owners=OWNERS,
        kinds=KINDS,
        code_version=code_version,
        metadata=definition_metadata(table),
        io_manager_key=TABLE_IO_MANAGER,
    )


def columns_in(columns: Sequence[str]) -> dg.AssetIn:
    """An input of some columns of a table, in memory: the widest hold most of its bytes, and few readers need them."""
    return dg.AssetIn(metadata={COLUMNS: list(columns)})


def rows_in() -> dg.AssetIn:
    """An input that is read a batch at a time: whole, the widest tables would not fit into memory."""
    return dg.AssetIn(metadata={STREAMED: True})


def table_out(table: Table, *, group: str, code_version: str) -> dg.AssetOut:
    """Declares one of several tables that one step makes."""
    return dg.AssetOut(
        description=_description(table),
        group_name=group,
        owners=OWNERS,
        kinds=KINDS,
        code_version=code_version,
        metadata=definition_metadata(table),
        io_manager_key=TABLE_IO_MANAGER,
    )


def _description(table: Table) -> str:
    return f"{table.description}\n\nQuery it as the view `{table.name}` of `civitai.duckdb`."
