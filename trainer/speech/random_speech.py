"""Texts of random words spoken by espeak-ng: speech without end, in many languages and voices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from clara_search.models.clara.text_phones import phone_indices
from trainer.config.evaluation import bundled_digits
from trainer.data.synthesis import ACCENTS, SAMPLE_RATE, VARIANTS, trim_silence
from trainer.phones.espeak import speak
from trainer.phones.g2p import text_to_phones
from trainer.phones.pronunciations import word_lists

LANGUAGE_WEIGHTS: Mapping[str, float] = {
    "es": 0.2,
    "de": 0.18,
    **dict.fromkeys(("en", "fr", "it", "ru", "nl", "pt", "pl", "cs"), 0.06),
    **dict.fromkeys(("ca", "da", "el", "fi", "hu", "lt", "nb", "ro", "sl", "sv", "tr", "uk"), 0.014),
}
"""Share of each language."""

_MORE_DIGITS: Mapping[str, str] = {
    "cs": "nula jedna dva tři čtyři pět šest sedm osm devět",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
    "pl": "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
}
"""Words for the digits in languages that the suite of the bundled model does not have."""

_DIGIT_SHARE = 0.15
"""Share of texts of digits alone, in the languages that have them."""


class RandomSpeech:
    """Random words, or digits, in random voices.

    Args:
        inventory: the phones that there are.
        weights: share of each language.
    """

    def __init__(self, inventory: str, weights: Mapping[str, float] = LANGUAGE_WEIGHTS) -> None:
        self._inventory = inventory
        self._digits = {**bundled_digits().words, **{code: words.split() for code, words in _MORE_DIGITS.items()}}
        self._languages, self._odds = list(weights), np.array(list(weights.values())) / sum(weights.values())
        self._words = {language: word_lists(language) for language in weights}

    def sample(self, rng: np.random.Generator) -> tuple[Waveform, list[int]]:
        """Return a waveform (samples,) at 16 kHz and its phones, as indices; both may be empty."""
        language = self._languages[rng.choice(len(self._languages), p=self._odds)]
        if language in self._digits and rng.random() < _DIGIT_SHARE:
            text = " ".join(rng.choice(list(self._digits[language]), rng.integers(1, 4)))
        else:
            words, bounds = self._words[language]
            count = min(int(rng.geometric(0.25)), 9)
            text = " ".join(words[i] for i in np.searchsorted(bounds, rng.random(count), side="right"))
        accents = ACCENTS.get(language, (language,))
        voice = f"{accents[rng.integers(len(accents))]}+{VARIANTS[rng.integers(len(VARIANTS))]}"
        waveform, rate = speak(text, voice, int(rng.integers(120, 231)), int(rng.integers(15, 86)))
        if not len(waveform):
            return waveform, []
        clip = trim_silence(resample(waveform, rate, SAMPLE_RATE), SAMPLE_RATE)
        return clip, phone_indices(text_to_phones(text, language), self._inventory)
