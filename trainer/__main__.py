"""`python -m trainer`: pretrain, prepare and probe; hear, write and speak what is trained on."""

from __future__ import annotations

import logging
import warnings

import click

from clara_search.commands.lazy_group import LazyGroup


class Trainer(LazyGroup):
    """The commands and where they are."""

    homes = {  # noqa: RUF012 - a constant
        "pretrain": "trainer.commands.pretrain:pretrain_command",
        "prepare": "trainer.commands.prepare:prepare_command",
        "probe": "trainer.commands.probe:probe_command",
        "average": "trainer.commands.interpolate:average_command",
        "hear": "trainer.commands.preview:hear_command",
        "shards": "trainer.commands.make_shards:shards_command",
        "pairs": "trainer.commands.fit_phone_bigrams:pairs_command",
        "read": "trainer.commands.pretrain_text:read_command",
        "readings": "trainer.commands.make_pronunciations:readings_command",
        "fit-sound-head": "trainer.commands.fit_sound_head:fit_sound_head_command",
        "speak": "trainer.commands.synthesize:speak_command",
    }


@click.group(cls=Trainer)
def main() -> None:
    """Train CLARA models; runs from a checkout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")  # of torch to Lightning


if __name__ == "__main__":
    main(prog_name="python -m trainer")
