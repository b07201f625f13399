"""Teaches a text tower how texts sound, before it hears a recording: `python -m trainer read`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import load_model
from clara_search.models.clara.phone_head import BLANK, PhoneHead
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model
from clara_search.text.tokenizer import Tokenizer
from trainer.config.recipe import Recipe
from trainer.data.captions import Captions
from trainer.data.corpus import Corpus
from trainer.data.splits import Splits
from trainer.phones.alignment import phone_slots
from trainer.phones.bigrams import known_phone_bigrams
from trainer.phones.g2p import is_transcript, phone_indices, words_to_phones
from trainer.phones.pronunciations import Pronunciation

log = logging.getLogger(__name__)

HELD_OUT = 2000
"""The last so many readings tell how well it goes; they are not learnt."""

DEFAULT_BATCH_SIZE, _SORTED = 128, 64
"""Texts in a step, and steps whose texts are sorted by length together."""

TRANSCRIPTS = 0.3
"""How much of what is read are transcripts of recordings, where there are some."""

DEFAULT_LEARNING_RATE = 1.5e-3
"""The learning rate that is warmed up to."""

_SCALE = 20.0
"""Multiplies the cosines between the texts of a batch and what is said."""

_UNTOLD = -100
"""In a slot of which it is not known what it holds: it has no part in the loss."""

DEFAULT_NAMES_SHARE = 20_000
"""Captions of sounds that are drawn to be kept."""

_KEPT, _KEPT_WEIGHT = 64, 4.0
"""How many of the texts that are kept have a part in a step, and how large a part."""

_TOLD_EVERY = 100
"""Steps between two lines of the log."""


class Anchors(NamedTuple):
    """Texts and the unit vectors (n, dim) that they should keep."""

    texts: Sequence[str]
    vectors: Tensor


def pretrain_text(
    model: Clara,
    tokenizer: Tokenizer,
    readings: Sequence[Pronunciation],
    steps: int,
    lr: float = DEFAULT_LEARNING_RATE,
    seed: int = 0,
    bf16: bool = False,
    kept: Anchors | None = None,
) -> float:
    """Train the text tower of `model` to give the vectors of what `readings` say; return its recall@1 on others.

    Those vectors are of phones in `model.phone_head`, of which only what reads them is trained. There are always new
    texts, so nothing is dropped out. The last `HELD_OUT` readings, or a tenth of fewer, are the others: each text has
    to find what it says among them. Texts that are `kept` go on having the vectors they had. Raises ConfigError for a
    model without phones.
    """
    if model.phone_head is None or model.config.phone_head is None:
        raise ConfigError("the recipe has no model.phone_head: there are no phones to learn")
    spoken, inventory = model.phone_head, model.config.phone_head.phones
    told = [(reading, said) for reading in readings if (said := phone_indices(reading.phones, inventory))]
    reads = spoken.token_classifier
    held_out = min(HELD_OUT, len(told) // 10)
    learnt, others = told[: len(told) - held_out], told[len(told) - held_out :]
    parameters = [*model.text.parameters(), *model.text_projection.parameters(), *(reads.parameters() if reads else ())]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    warmup, generator = min(200, steps // 10), torch.Generator().manual_seed(seed)
    bar = trange(steps, desc="reading", disable=None)
    for step, batch in zip(bar, _batches(learnt, seed), strict=False):
        rate = min((step + 1) / (warmup + 1), 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = lr * rate
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            text, vectors, aloud = _embedded(model, spoken, tokenizer, batch)
            moved = _moved(model, tokenizer, kept, generator) if kept else text.new_zeros(())
        positives = torch.arange(len(batch))
        agreement = (text * vectors).sum(dim=1).mean()
        loss = F.cross_entropy(text @ vectors.T * _SCALE, positives) + 1.0 - agreement + aloud + _KEPT_WEIGHT * moved
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        measured = {"cosine": agreement.item(), "phones": aloud.item(), "moved": moved.item()}
        bar.set_postfix({name: f"{value:.3f}" for name, value in measured.items()})
        if step % _TOLD_EVERY == 0:
            log.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in measured.items()))
    parts = [others[at : at + DEFAULT_BATCH_SIZE] for at in range(0, len(others), DEFAULT_BATCH_SIZE)]
    with torch.inference_mode():
        texts, vectors = map(torch.cat, zip(*(_embedded(model, spoken, tokenizer, x)[:2] for x in parts), strict=True))
    found = (texts @ vectors.T).argmax(dim=1).tolist()
    return float(np.mean([others[at][1] == said for at, (_, said) in zip(found, others, strict=True)]))


def _moved(model: Clara, tokenizer: Tokenizer, kept: Anchors, generator: torch.Generator) -> Tensor:
    """Return how far some of the texts that are `kept` are from where they were: 1 - cosine."""
    chosen = torch.randint(len(kept.texts), (_KEPT,), generator=generator)
    vectors = _text_vectors(model, tokenizer, [kept.texts[index] for index in chosen.tolist()])
    return 1.0 - (vectors.float() * kept.vectors[chosen]).sum(dim=1).mean()


def _text_vectors(model: Clara, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    ids, mask = tokenizer.encode(texts, [None] * len(texts), model.config.text.max_positions)
    return model.embed_tokens(torch.from_numpy(ids), torch.from_numpy(mask))


_Told = tuple[Pronunciation, list[int]]
"""A reading and its phones by index."""


def _embedded(
    model: Clara, spoken: PhoneHead, tokenizer: Tokenizer, batch: Sequence[_Told]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors (batch, dim) of the texts and of their phones, and the loss of telling the phones."""
    longest = model.config.text.max_positions
    ids, mask = map(torch.from_numpy, tokenizer.encode([x.text for x, _ in batch], [None] * len(batch), longest))
    targets = nn.utils.rnn.pad_sequence([torch.tensor(said) for _, said in batch], batch_first=True)
    with torch.no_grad():
        vectors = spoken.embed_bigrams(
            known_phone_bigrams(targets, torch.tensor([len(said) for _, said in batch]), spoken.num_phones)
        )
    tokens = model.text.encode_tokens(ids, mask)
    text = model.embed_token_states(tokens, mask)
    aloud = text.new_zeros(())
    if spoken.token_classifier is not None:
        logits, _ = spoken.predict_from_tokens(tokens, mask)
        told = _slots(model, tokenizer, batch, logits.shape[1])
        aloud = F.cross_entropy(logits.float().flatten(0, 1), told.flatten(), ignore_index=_UNTOLD, reduction="sum")
        aloud = aloud / (told > BLANK).sum().clamp_min(1)
    return text.float(), F.normalize(vectors.float(), dim=-1), aloud


def _slots(model: Clara, tokenizer: Tokenizer, batch: Sequence[_Told], length: int) -> Tensor:
    """Return what the slots of each text hold, (batch, length); `_UNTOLD` where that is not known."""
    assert model.config.phone_head is not None
    inventory, per_token = model.config.phone_head.phones, model.config.phone_head.slots_per_token
    found = torch.full((len(batch), length), _UNTOLD)
    spans = tokenizer.token_offsets([reading.text for reading, _ in batch])
    for row, (reading, _), places in zip(found, batch, spans, strict=True):
        said = [phone_indices(word, inventory) for word in reading.phones.split(" ")]
        slots = phone_slots(reading.text, said, places, per_token)
        if slots is not None:
            slots = [BLANK] * per_token + slots  # nothing is said by the token of the language
            row[: len(slots)] = torch.tensor(slots[:length])
    return found


def _batches(readings: Sequence[_Told], seed: int) -> Iterator[list[_Told]]:
    """Yield batches of texts of similar length, over and over."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(readings))
        for at in range(0, len(order), DEFAULT_BATCH_SIZE * _SORTED):
            part = sorted(order[at : at + DEFAULT_BATCH_SIZE * _SORTED], key=lambda index: len(readings[index][0].text))
            parts = [part[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(part), DEFAULT_BATCH_SIZE)]
            for place in rng.permutation(len(parts)):
                yield [readings[index] for index in parts[place]]


def mix_sources(readings: Sequence[Pronunciation], transcripts: Sequence[Pronunciation]) -> list[Pronunciation]:
    """Return `readings` behind `transcripts`, which are repeated until they are `TRANSCRIPTS` of all."""
    if not transcripts:
        return list(readings)
    times = round(len(readings) * TRANSCRIPTS / (1.0 - TRANSCRIPTS) / len(transcripts))
    return [*list(transcripts) * max(times, 1), *readings]


def transcripts(corpus: Corpus, sides: Splits) -> list[Pronunciation]:
    """Return what is said in the recordings that are trained on, each text once."""
    examples = (corpus.examples[index] for index in sides.train)
    said = {(example.text, example.language) for example in examples if is_transcript(example)}
    return [Pronunciation(text, language, " ".join(words_to_phones(text, language))) for text, language in sorted(said)]


def sound_names(corpus: Corpus, sides: Splits, captions: Captions, count: int) -> list[str]:
    """Return `count` captions of recordings that are trained on, and whose texts are not what is said in them."""
    rng = np.random.default_rng(0)
    named = [x for x in (corpus.examples[index] for index in sides.train) if not is_transcript(x)]
    return [captions.of(named[rng.integers(len(named))], rng)[0] for _ in range(count if named else 0)]


def load_anchors(recipe: Recipe, texts: Sequence[str]) -> Anchors | None:
    """Return `texts` with the vectors that the model of towers.begin gives them; None for no texts."""
    if not texts:
        return None
    model, tokenizer = load_model(find_model(recipe.towers.begin))
    model.float().eval()
    with torch.inference_mode():
        parts = [
            _text_vectors(model, tokenizer, texts[at : at + DEFAULT_BATCH_SIZE])
            for at in range(0, len(texts), DEFAULT_BATCH_SIZE)
        ]
    return Anchors(texts, torch.cat(parts).clone())
