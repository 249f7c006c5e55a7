"""The page's template, style and script; data files, no code."""
