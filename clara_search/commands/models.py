"""`clara-search models`."""

from __future__ import annotations

import click

from clara_search.commands.common import Align, json_option, print_facts, print_json, print_table


@click.group()
def models() -> None:
    """Show which models there are and what they are."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models that come with the package."""
    from clara_search.models import catalog

    described = [catalog.describe(name) for name in catalog.bundled()]
    if as_json:
        print_json(described)
        return
    columns: dict[str, Align] = {
        "name": "left",
        "dim": "right",
        "sample_rate": "right",
        "parameters": "right",
        "licence": "fill",
    }
    print_table(columns, (tuple(str(model.get(column, "")) for column in columns) for model in described))


@models.command("show")
@click.argument("model")
@json_option
def show_model(model: str, as_json: bool) -> None:
    """Show what is known of MODEL, a name or a folder, with its card."""
    from clara_search.models import catalog

    described = catalog.describe(model)
    if as_json:
        print_json([described])
    else:
        print_facts(described)
