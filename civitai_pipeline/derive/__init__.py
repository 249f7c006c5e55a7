"""Tables as functions of pages: folds the ledger's pages through ``prompts`` into the lake's tables.

``analyses`` counts and compares what those tables hold.

Uses ``lake`` and ``prompts``; knows neither HTTP nor Dagster.
"""
