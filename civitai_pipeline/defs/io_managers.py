"""IO managers: one that carries the lake's tables between assets as Arrow tables."""

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.metadata import preview
from civitai_pipeline.defs.partitions import version_of
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.lake import tables
from civitai_pipeline.lake.schemas import TABLES, Table

_TABLES_BY_NAME = {table.name: table for table in TABLES}
PREVIEWED_COLUMNS = 6


class TableIOManager(dg.ConfigurableIOManager):
    """Keeps an asset's table as ``<table>/<version>.parquet`` in the lake; the asset's name is the table's."""

    store: dg.ResourceDependency[LakeStore]

    def handle_output(self, context: dg.OutputContext, obj: pa.Table) -> None:
        """Writes a table under a temporary name, swaps it in, and tells the UI what it is."""
        table = _table(context.asset_key)
        path = tables.write_table(self.store.lake(), table, version_of(context.partition_key), obj)
        context.add_output_metadata(
            {
                "dagster/partition_row_count": len(obj),
                "dagster/uri": dg.MetadataValue.path(str(path)),
                "rows": len(obj),
                "bytes": path.stat().st_size,
                "preview": preview(obj, [column.name for column in table.columns[:PREVIEWED_COLUMNS]]),
            }
        )

    def load_input(self, context: dg.InputContext) -> pa.Table:
        """Reads the table of the partition asked for.

        Raises:
            dagster.Failure: It has not been made yet.
        """
        table = _table(context.asset_key)
        version = version_of(context.partition_key)
        try:
            return tables.read_table(self.store.lake(), table, version)
        except FileNotFoundError:
            raise dg.Failure(
                f"table {table.name} of model version {version} has not been made yet; "
                f"materialize the asset {table.name} for partition {version}, or run the job collect"
            ) from None


def _table(asset_key: dg.AssetKey) -> Table:
    return _TABLES_BY_NAME[asset_key.path[-1]]
