"""Tests of the lake, over real files and real DuckDB."""
