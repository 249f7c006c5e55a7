"""Tests of the exports: what is written is what was asked for, whole, and loads elsewhere."""
