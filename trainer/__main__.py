"""`python -m trainer`: prepare training data, pretrain, probe."""

from __future__ import annotations

import logging
import warnings

import click

from clara_search.commands.lazy_group import LazyGroup
from clara_search.commands.options import limit_option, network_options_for_data
from clara_search.commands.output import OneLineFormatter


class Trainer(LazyGroup):
    """The commands and the modules that define them."""

    homes = {  # noqa: RUF012 - a constant
        "pretrain": "trainer.commands.pretrain:pretrain_command",
        "prepare": "trainer.commands.prepare:prepare_command",
        "probe": "trainer.commands.probe:probe_command",
        "preview": "trainer.commands.preview:preview_command",
        "make-shards": "trainer.commands.make_shards:make_shards_command",
        "synthesize": "trainer.commands.synthesize:synthesize_command",
        "make-pronunciations": "trainer.commands.make_pronunciations:make_pronunciations_command",
        "pretrain-text": "trainer.commands.pretrain_text:pretrain_text_command",
        "fit-phone-bigrams": "trainer.commands.fit_phone_bigrams:fit_phone_bigrams_command",
        "interpolate": "trainer.commands.interpolate:interpolate_command",
        "fit-speech": "trainer.commands.fit_speech:fit_speech_command",
        "fit-sound-head": "trainer.commands.fit_sound_head:fit_sound_head_command",
    }
    options = (limit_option, network_options_for_data)


@click.group(cls=Trainer)
def main() -> None:
    """Train CLARA models; runs from a checkout."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")  # from torch about Lightning


if __name__ == "__main__":
    main(prog_name="python -m trainer")
