"""The names of the files that reports consist of, all in one folder. Where that folder is, the lake knows."""

from __future__ import annotations

PLOTLY_FILE = "plotly.min.js"
INDEX_FILE = "index.html"


def report_file_name(model_version_id: int | str) -> str:
    """The name of a version's page."""
    return f"{int(model_version_id)}.html"


def explorer_file_name(model_version_id: int | str) -> str:
    """The name of a version's explorer."""
    return f"{int(model_version_id)}-explorer.html"


def prompts_file_name(model_version_id: int | str, digest: str) -> str:
    """The name of the script that a version's explorer reads its prompts from; ``*`` as the digest fits any.

    The digest of its content is in its name, so that an explorer never reads prompts it was not made for.
    """
    return f"{int(model_version_id)}-prompts-{digest[:16]}.js"
