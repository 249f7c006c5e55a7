"""The benchmarks behind docs/performance.md and docs/scaling.md: how long things take, in how much memory."""
