"""Teaches a text tower how texts sound, before it hears a recording: `python -m trainer read`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from clara_search.errors import FormatError
from clara_search.models.checkpoint import save_model
from clara_search.models.clara import Clara
from clara_search.models.phones import Spoken
from clara_search.tokenizer import Tokenizer
from trainer.beginning import begin, configured, first_tokenizer, load_towers
from trainer.commands import load, recipe_options
from trainer.corpus import Corpus, load_corpus
from trainer.loss import pairs_of
from trainer.phones import indices, is_transcript, phones
from trainer.readings import Reading, load_readings
from trainer.sides import Sides, split

log = logging.getLogger(__name__)

HELD_OUT = 2000
"""The last so many readings tell how well it goes; they are not learnt."""

_BATCH, _SORTED = 256, 64
"""Texts in a step, and steps whose texts are sorted by length together."""

TRANSCRIPTS = 0.3
"""How much of what is read are transcripts of recordings, where there are some."""

_SCALE = 20.0
"""Multiplies the cosines between the texts of a batch and what is said."""


def learn_to_read(
    model: Clara,
    tokenizer: Tokenizer,
    readings: Sequence[Reading],
    steps: int,
    lr: float = 1.5e-3,
    seed: int = 0,
    bf16: bool = False,
) -> float:
    """Train the text tower of `model` to give the vectors of what `readings` say; return its recall@1 on others.

    Those vectors are of phones in `model.spoken`, which stays as it is. There are always new texts, so nothing is
    dropped out. The last `HELD_OUT` readings, or a tenth of fewer, are the others: each text has to find what it says
    among them. Raises FormatError for a model without phones.
    """
    if model.spoken is None or model.config.spoken is None:
        raise FormatError("the recipe has no model.spoken: there are no phones to learn")
    spoken, inventory = model.spoken, model.config.spoken.phones
    told = [(reading, said) for reading in readings if (said := indices(reading.phones, inventory))]
    held_out = min(HELD_OUT, len(told) // 10)
    learnt, others = told[: len(told) - held_out], told[len(told) - held_out :]
    parameters = [*model.text.parameters(), *model.text_projection.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    warmup = min(200, steps // 10)
    bar = trange(steps, desc="reading", disable=None)
    for step, batch in zip(bar, _batches(learnt, seed), strict=False):
        rate = min((step + 1) / (warmup + 1), 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = lr * rate
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            text, vectors = _embedded(model, spoken, tokenizer, batch)
        positives = torch.arange(len(batch))
        agreement = (text * vectors).sum(dim=1).mean()
        loss = F.cross_entropy(text @ vectors.T * _SCALE, positives) + 1.0 - agreement
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", cosine=f"{agreement.item():.3f}")
    parts = [others[at : at + _BATCH] for at in range(0, len(others), _BATCH)]
    with torch.inference_mode():
        texts, vectors = map(torch.cat, zip(*(_embedded(model, spoken, tokenizer, x) for x in parts), strict=True))
    found = (texts @ vectors.T).argmax(dim=1).tolist()
    return float(np.mean([others[at][1] == said for at, (_, said) in zip(found, others, strict=True)]))


_Told = tuple[Reading, list[int]]
"""A reading and its phones by index."""


def _embedded(model: Clara, spoken: Spoken, tokenizer: Tokenizer, batch: Sequence[_Told]) -> tuple[Tensor, Tensor]:
    """Return unit vectors (batch, dim) of the texts, and of their phones."""
    longest = model.config.text.max_positions
    ids, mask = tokenizer.encode([reading.text for reading, _ in batch], [None] * len(batch), longest)
    targets = nn.utils.rnn.pad_sequence([torch.tensor(said) for _, said in batch], batch_first=True)
    with torch.no_grad():
        vectors = spoken.embed(pairs_of(targets, torch.tensor([len(said) for _, said in batch]), spoken.phones))
    text = model.embed_tokens(torch.from_numpy(ids), torch.from_numpy(mask))
    return text.float(), F.normalize(vectors.float(), dim=-1)


def _batches(readings: Sequence[_Told], seed: int) -> Iterator[list[_Told]]:
    """Yield batches of texts of similar length, over and over."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(readings))
        for at in range(0, len(order), _BATCH * _SORTED):
            part = sorted(order[at : at + _BATCH * _SORTED], key=lambda index: len(readings[index][0].text))
            parts = [part[start : start + _BATCH] for start in range(0, len(part), _BATCH)]
            for place in rng.permutation(len(parts)):
                yield [readings[index] for index in parts[place]]


def mixed(readings: Sequence[Reading], transcripts: Sequence[Reading]) -> list[Reading]:
    """Return `readings` behind `transcripts`, which are repeated until they are `TRANSCRIPTS` of all."""
    if not transcripts:
        return list(readings)
    times = round(len(readings) * TRANSCRIPTS / (1.0 - TRANSCRIPTS) / len(transcripts))
    return [*list(transcripts) * max(times, 1), *readings]


def transcripts_of(corpus: Corpus, sides: Sides) -> list[Reading]:
    """Return what is said in the recordings that are trained on, each text once."""
    examples = (corpus.examples[index] for index in sides.train)
    said = {(example.text, example.language) for example in examples if is_transcript(example)}
    return [Reading(text, language, phones(text, language)) for text, language in sorted(said)]


@click.command("read")
@recipe_options
@click.option("--readings", type=click.Path(path_type=Path), required=True, help="What `trainer readings` wrote.")
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help=f"Of {_BATCH} texts each.")
def read_command(
    recipe: Path, sources: tuple[str, ...], overrides: tuple[str, ...], run: Path | None, readings: Path, steps: int
) -> None:
    """Teach the text tower of RECIPE how texts sound; it begins with the weights of towers.begin.

    With --data, transcripts of the recordings that are trained on are read too. Writes a model folder, which a recipe
    names as its towers.begin.
    """
    settings, folder = load(recipe, sources, overrides, run)
    torch.manual_seed(settings.seed)
    towers = load_towers(settings.towers)
    tokenizer = first_tokenizer(settings, towers)
    if tokenizer is None:
        raise FormatError("reading needs a tokenizer: name one as tokenizer.path, or a model as towers.begin")
    settings = replace(settings, model=configured(settings, towers))
    texts, transcripts = load_readings(readings), list[Reading]()
    if settings.data.sources:
        rate, cache = settings.model.mel.sample_rate, folder.parent / "cache"
        corpus = load_corpus(settings.data.sources, rate, cache, settings.data.decode)
        transcripts = transcripts_of(corpus, split(corpus, settings.data))
    model = Clara(settings.model).eval()
    inventory = settings.model.spoken.phones if settings.model.spoken else ""
    begin(model, settings, towers, [said for text in texts[:20_000] if (said := indices(text.phones, inventory))])
    bf16 = settings.run.precision == "bf16-mixed"
    found = learn_to_read(model, tokenizer, mixed(texts, transcripts), steps, seed=settings.seed, bf16=bf16)
    save_model(folder / "model", model, tokenizer, card="")
    click.echo(f"{folder / 'model'}: {found:.3f} of the texts that it was not taught find what they say")
