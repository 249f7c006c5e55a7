"""Turns CivitAI's public API into a complete, trustworthy dataset of image-generation prompts."""
