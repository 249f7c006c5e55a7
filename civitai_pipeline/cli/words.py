"""The command ``taxonomy``: which words decide categories, whether a file of them is sound, a copy to edit."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from civitai_pipeline.cli.common import Misuse, Trouble, examples, mention, settings_or_misuse
from civitai_pipeline.console import rows_table


@click.command(epilog=examples("taxonomy", "taxonomy --copy words.toml", "taxonomy --check words.toml"))
@click.option(
    "--check", "checked", type=click.Path(dir_okay=False, path_type=Path), help="Check this file instead of showing."
)
@click.option(
    "--copy", "copied", type=click.Path(dir_okay=False, path_type=Path), help="Write a copy of the packaged taxonomy."
)
def taxonomy(checked: Path | None, copied: Path | None) -> None:
    """Show the taxonomy in use, check one, or write a copy to edit.

    To use a file of your own, copy the packaged one, change it, raise its version, and set CIVITAI_TAXONOMY. The
    next run categorizes every prompt anew, without asking the API, and shows what changed.
    """
    from civitai_pipeline.prompts.taxonomy import DEFAULT_TAXONOMY, TaxonomyError, load_taxonomy  # noqa: PLC0415

    if copied is not None:
        try:
            with copied.open("x", encoding="utf-8") as file:
                file.write(DEFAULT_TAXONOMY.read_text(encoding="utf-8"))
        except FileExistsError:
            raise Misuse(f"{copied} exists already; name a new file") from None
        except OSError as error:
            raise Trouble(f"{copied} cannot be written: {error.strerror}") from None
        mention(f"Written to {copied}. Change it, raise its version, then set CIVITAI_TAXONOMY={copied}")
        return
    named = settings_or_misuse().taxonomy
    path = checked or (Path(named).expanduser() if named else DEFAULT_TAXONOMY)
    try:
        loaded = load_taxonomy(path)
    except TaxonomyError as error:
        raise Trouble(str(error)) from None
    counted = dict.fromkeys(loaded.categories, 0)
    for said in loaded.phrases.values():
        for evidence in said:
            counted[evidence.category] += 1
    rows = [
        {"category": name, "terms": loaded.terms[name], "phrases": counted[name], "version": loaded.version}
        for name in loaded.categories
    ]
    Console().print(
        rows_table(rows, {"category": "category", "terms": "terms", "phrases": "spellings", "version": "taxonomy"})
    )
    mention(f"{path} is sound.")
