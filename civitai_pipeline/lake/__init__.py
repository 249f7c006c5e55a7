"""Knows the lake's files: the page ledger, the Parquet tables with their schemas, the DuckDB file.

Nothing here knows HTTP or Dagster.
"""
