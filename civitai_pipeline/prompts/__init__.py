"""What one item says: pure functions from API items to facts, resources, categories and scores.

Plain data in, plain data out. Nothing here knows files, HTTP or Dagster.
"""
