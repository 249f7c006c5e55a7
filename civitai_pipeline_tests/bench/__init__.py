"""The benchmark behind docs/performance.md: how long the tables of many items take, and how much memory."""
