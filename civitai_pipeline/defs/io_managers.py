"""IO managers: one that carries the lake's tables between assets as Arrow tables."""

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.assets.common import COLUMNS, STREAMED
from civitai_pipeline.defs.lineage import column_lineage
from civitai_pipeline.defs.metadata import MAX_PREVIEW_ROWS, preview
from civitai_pipeline.defs.partitions import version_of
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.lake import tables
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.schemas import TABLES, Table

_TABLES_BY_NAME = {table.name: table for table in TABLES}
PREVIEWED_COLUMNS = 6


class TableIOManager(dg.ConfigurableIOManager):
    """Keeps an asset's table as ``<table>/<version>.parquet`` in the lake; the asset's name is the table's."""

    store: dg.ResourceDependency[LakeStore]

    def handle_output(self, context: dg.OutputContext, obj: pa.Table | tables.TableFile) -> None:
        """Writes a table under a temporary name unless that is done, swaps it in, and tells the UI what it is."""
        table, version = _table(context.asset_key), version_of(context.partition_key)
        lake = self.store.lake()
        path = (
            obj.put_in_place() if isinstance(obj, tables.TableFile) else tables.write_table(lake, table, version, obj)
        )
        lineage = column_lineage(table)
        context.add_output_metadata(
            {
                "dagster/partition_row_count": len(obj),
                "dagster/uri": dg.MetadataValue.path(str(path)),
                "rows": len(obj),
                "bytes": path.stat().st_size,
                **({"dagster/column_lineage": lineage} if lineage is not None else {}),
                "preview": preview(tables.first_rows(lake, table, version, MAX_PREVIEW_ROWS, PREVIEWED_COLUMNS)),
            }
        )

    def load_input(self, context: dg.InputContext) -> pa.Table | PinnedTable:
        """Reads the table of the partition asked for, or its columns that the input's metadata names; or only opens it.

        Raises:
            dagster.Failure: It has not been made yet.
        """
        table = _table(context.asset_key)
        version = version_of(context.partition_key)
        lake = self.store.lake()
        try:
            asked = context.definition_metadata or {}
            if asked.get(STREAMED):
                return PinnedTable.of(lake, table, version)
            return tables.read_table(lake, table, version, asked.get(COLUMNS))
        except FileNotFoundError:
            raise dg.Failure(
                f"table {table.name} of model version {version} has not been made yet; "
                f"materialize the asset {table.name} for partition {version}, or run the job collect"
            ) from None


def _table(asset_key: dg.AssetKey) -> Table:
    return _TABLES_BY_NAME[asset_key.path[-1]]
