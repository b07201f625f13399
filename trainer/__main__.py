"""`python -m trainer`: pretrain, prepare and probe; hear, write and speak what is trained on."""

from __future__ import annotations

import logging
import warnings

import click

from clara_search.commands.lazy import LazyGroup


class Trainer(LazyGroup):
    """The commands and where they are."""

    homes = {  # noqa: RUF012 - a constant
        "pretrain": "trainer.commands:pretrain_command",
        "prepare": "trainer.prepare:prepare_command",
        "probe": "trainer.probe_command:probe_command",
        "average": "trainer.average:average_command",
        "hear": "trainer.hear:hear_command",
        "shards": "trainer.shards:shards_command",
        "pairs": "trainer.pairs:pairs_command",
        "read": "trainer.read:read_command",
        "readings": "trainer.readings:readings_command",
        "speak": "trainer.speak:speak_command",
    }


@click.group(cls=Trainer)
def main() -> None:
    """Train CLARA models; runs from a checkout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")  # of torch to Lightning


if __name__ == "__main__":
    main(prog_name="python -m trainer")
