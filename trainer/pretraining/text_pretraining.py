"""Pretraining of a text tower on pronunciations: it learns to embed a text as the phone head embeds its phones."""

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

from clara_search.datasets.example import Example
from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import load_model
from clara_search.models.clara.phone_head import BLANK, PhoneHead, known_phone_bigrams
from clara_search.models.clara.text_phones import phone_indices
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model
from clara_search.text.tokenizer import Tokenizer
from trainer.data.captions import Captions
from trainer.phones.alignment import phone_slots
from trainer.phones.g2p import is_transcript, words_to_phones
from trainer.phones.pronunciations import Pronunciation

log = logging.getLogger(__name__)

HELD_OUT = 2000
"""Pronunciations at the end of the list that are validated on, not trained on; of a short list, a tenth."""

DEFAULT_BATCH_SIZE, _BUCKET_BATCHES = 128, 64
"""Texts in a step, and steps whose texts are sorted by length together."""

TRANSCRIPT_SHARE = 0.3
"""Share of the transcripts of recordings among the texts of `mix_sources`."""

DEFAULT_LEARNING_RATE = 1.5e-3
"""Peak learning rate."""

NUM_ANCHORS = 20_000
"""Captions of sounds whose embeddings are anchored."""

_LOGIT_SCALE = 20.0
"""Factor of the cosines between the texts and the phones of a batch."""

_IGNORED = -100
"""Target of a slot whose phone is unknown."""

_ANCHOR_BATCH, _ANCHOR_WEIGHT = 64, 4.0
"""Anchors in a step, and the weight of their loss."""

_LOG_STEPS = 100


class Anchors(NamedTuple):
    """Texts and the unit vectors (n, dim) that their embeddings must stay close to."""

    texts: Sequence[str]
    vectors: Tensor


class _Pair(NamedTuple):
    """A pronunciation and its phones by index."""

    pronunciation: Pronunciation
    phones: list[int]


class _Embedded(NamedTuple):
    """Unit vectors (batch, dim) of texts and of their phones, and the loss of the phones that tokens predict."""

    text: Tensor
    phones: Tensor
    token_loss: Tensor


def pretrain_text(
    model: Clara,
    tokenizer: Tokenizer,
    pronunciations: Sequence[Pronunciation],
    steps: int,
    lr: float = DEFAULT_LEARNING_RATE,
    seed: int = 0,
    bf16: bool = False,
    anchors: Anchors | None = None,
) -> float:
    """Train the text tower to embed texts as the phone head embeds their phones.

    The loss is contrastive, plus 1 - cosine, plus the cross-entropy of the phones that tokens predict. Of the phone
    head only the token classifier is trained. There is no dropout: hardly a text is seen twice.

    Args:
        model: changed in place.
        tokenizer: of the model.
        pronunciations: texts with their phones; the last `HELD_OUT` are validated on.
        steps: of `DEFAULT_BATCH_SIZE` texts each.
        lr: peak learning rate.
        seed: of the order of the texts.
        bf16: whether to compute in bfloat16.
        anchors: texts whose embeddings must stay close to given ones.

    Returns:
        Recall@1 from the held-out texts to their phones.

    Raises:
        ConfigError: the model has no phone head.
    """
    if model.phone_head is None or model.config.phone_head is None:
        raise ConfigError("the model has no phone head: add [model.phone_head] to the recipe")
    phone_head, inventory = model.phone_head, model.config.phone_head.phones
    pairs = [_Pair(x, phones) for x in pronunciations if (phones := phone_indices(x.phones, inventory))]
    classifier = phone_head.token_classifier
    num_held_out = min(HELD_OUT, len(pairs) // 10)
    train, held_out = pairs[: len(pairs) - num_held_out], pairs[len(pairs) - num_held_out :]
    parameters = [*model.text.parameters(), *model.text_projection.parameters()]
    parameters += classifier.parameters() if classifier else ()
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    warmup, generator = min(200, steps // 10), torch.Generator().manual_seed(seed)
    bar = trange(steps, desc="pretraining", disable=None)
    for step, batch in zip(bar, _batches(train, seed), strict=False):
        factor = min((step + 1) / (warmup + 1), 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = lr * factor
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embedded = _embed(model, phone_head, tokenizer, batch)
            anchor_loss = embedded.text.new_zeros(())
            if anchors:
                anchor_loss = _anchor_loss(model, tokenizer, anchors, generator)
        cosine = (embedded.text * embedded.phones).sum(dim=1).mean()
        contrastive = F.cross_entropy(embedded.text @ embedded.phones.T * _LOGIT_SCALE, torch.arange(len(batch)))
        loss = contrastive + 1.0 - cosine + embedded.token_loss + _ANCHOR_WEIGHT * anchor_loss
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        measured = {"cosine": cosine.item(), "phones": embedded.token_loss.item(), "anchors": anchor_loss.item()}
        bar.set_postfix({name: f"{value:.3f}" for name, value in measured.items()})
        if step % _LOG_STEPS == 0:
            log.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in measured.items()))
    return _recall_at_1(model, phone_head, tokenizer, held_out)


def _recall_at_1(model: Clara, phone_head: PhoneHead, tokenizer: Tokenizer, pairs: Sequence[_Pair]) -> float:
    """Return the share of texts whose nearest phones, among those of all `pairs`, are their own."""
    batches = [pairs[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(pairs), DEFAULT_BATCH_SIZE)]
    with torch.inference_mode():
        embedded = [_embed(model, phone_head, tokenizer, batch) for batch in batches]
    texts, phones = torch.cat([x.text for x in embedded]), torch.cat([x.phones for x in embedded])
    nearest = (texts @ phones.T).argmax(dim=1).tolist()
    return float(np.mean([pairs[row].phones == pair.phones for row, pair in zip(nearest, pairs, strict=True)]))


def _anchor_loss(model: Clara, tokenizer: Tokenizer, anchors: Anchors, generator: torch.Generator) -> Tensor:
    """Return 1 - cosine between the embeddings of some anchors and their vectors, averaged."""
    rows = torch.randint(len(anchors.texts), (_ANCHOR_BATCH,), generator=generator)
    vectors = _embed_texts(model, tokenizer, [anchors.texts[row] for row in rows.tolist()])
    return 1.0 - (vectors.float() * anchors.vectors[rows]).sum(dim=1).mean()


def _embed_texts(model: Clara, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    ids, mask = tokenizer.encode(texts, [None] * len(texts), model.config.text.max_positions)
    return model.embed_tokens(torch.from_numpy(ids), torch.from_numpy(mask))


def _embed(model: Clara, phone_head: PhoneHead, tokenizer: Tokenizer, batch: Sequence[_Pair]) -> _Embedded:
    texts, max_tokens = [pair.pronunciation.text for pair in batch], model.config.text.max_positions
    ids, mask = map(torch.from_numpy, tokenizer.encode(texts, [None] * len(batch), max_tokens))
    targets = nn.utils.rnn.pad_sequence([torch.tensor(pair.phones) for pair in batch], batch_first=True)
    lengths = torch.tensor([len(pair.phones) for pair in batch])
    with torch.no_grad():
        phones = phone_head.embed_bigrams(known_phone_bigrams(targets, lengths, phone_head.num_phones))
    states = model.text.encode_tokens(ids, mask)
    text = model.embed_token_states(states, mask)
    token_loss = text.new_zeros(())
    if phone_head.token_classifier is not None:
        logits, _ = phone_head.predict_from_tokens(states, mask)
        slots = _slots(model, tokenizer, batch, logits.shape[1])
        total = F.cross_entropy(logits.float().flatten(0, 1), slots.flatten(), ignore_index=_IGNORED, reduction="sum")
        token_loss = total / (slots > BLANK).sum().clamp_min(1)
    return _Embedded(text.float(), F.normalize(phones.float(), dim=-1), token_loss)


def _slots(model: Clara, tokenizer: Tokenizer, batch: Sequence[_Pair], length: int) -> Tensor:
    """Return the phones in the slots of each text, (batch, length); `_IGNORED` where they are unknown."""
    assert model.config.phone_head is not None
    inventory, per_token = model.config.phone_head.phones, model.config.phone_head.slots_per_token
    slots = torch.full((len(batch), length), _IGNORED)
    spans = tokenizer.token_offsets([pair.pronunciation.text for pair in batch])
    for row, (pronunciation, _), token_spans in zip(slots, batch, spans, strict=True):
        words = [phone_indices(word, inventory) for word in pronunciation.phones.split(" ")]
        known = phone_slots(pronunciation.text, words, token_spans, per_token)
        if known is not None:
            known = [BLANK] * per_token + known  # the language token has no phones
            row[: len(known)] = torch.tensor(known[:length])
    return slots


def _batches(pairs: Sequence[_Pair], seed: int) -> Iterator[list[_Pair]]:
    """Yield batches of texts of similar length, forever."""
    rng = np.random.default_rng(seed)
    bucket_size = DEFAULT_BATCH_SIZE * _BUCKET_BATCHES
    while True:
        order = rng.permutation(len(pairs))
        for bucket_start in range(0, len(order), bucket_size):
            members = order[bucket_start : bucket_start + bucket_size]
            bucket = sorted(members, key=lambda index: len(pairs[index].pronunciation.text))
            batches = [
                bucket[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(bucket), DEFAULT_BATCH_SIZE)
            ]
            for number in rng.permutation(len(batches)):
                yield [pairs[index] for index in batches[number]]


def mix_sources(pronunciations: Sequence[Pronunciation], transcripts: Sequence[Pronunciation]) -> list[Pronunciation]:
    """Return `transcripts`, repeated to `TRANSCRIPT_SHARE` of the list, followed by `pronunciations`."""
    if not transcripts:
        return list(pronunciations)
    times = round(len(pronunciations) * TRANSCRIPT_SHARE / (1.0 - TRANSCRIPT_SHARE) / len(transcripts))
    return [*list(transcripts) * max(times, 1), *pronunciations]


def transcripts(examples: Sequence[Example]) -> list[Pronunciation]:
    """Return the distinct transcripts among `examples` with their phones, sorted."""
    texts = {(example.text, example.language) for example in examples if is_transcript(example)}
    return [
        Pronunciation(text, language, " ".join(words_to_phones(text, language))) for text, language in sorted(texts)
    ]


def sample_sound_names(examples: Sequence[Example], captions: Captions, count: int) -> list[str]:
    """Return `count` random captions of those `examples` whose text is not a transcript."""
    rng = np.random.default_rng(0)
    sounds = [example for example in examples if not is_transcript(example)]
    return [captions.sample(sounds[rng.integers(len(sounds))], rng)[0] for _ in range(count if sounds else 0)]


def embed_anchors(source: str, texts: Sequence[str]) -> Anchors | None:
    """Return `texts` with the embeddings of the model `source` (name or folder); None for no texts."""
    if not texts:
        return None
    model, tokenizer = load_model(find_model(source))
    model.float().eval()
    with torch.inference_mode():
        parts = [
            _embed_texts(model, tokenizer, texts[start : start + DEFAULT_BATCH_SIZE])
            for start in range(0, len(texts), DEFAULT_BATCH_SIZE)
        ]
    return Anchors(texts, torch.cat(parts).clone())
