"""Lets ``python -m civitai_pipeline.cli`` stand for the console script."""

from civitai_pipeline.cli import main

main()
