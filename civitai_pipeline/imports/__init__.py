"""What was collected elsewhere, brought into this lake: the older tool's databases, and other lakes.

Everything comes in as landed pages, so that all tables follow from them. Knows neither HTTP nor Dagster.
"""
