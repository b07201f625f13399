"""A real Whisper of a few thousand weights that says the same to everything, and a voice that it hears as speech."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 16_000
WORDS = ("Buenos", "días,", "señor", "Núñez.")
END_S = 2.0
"""Where the script ends, in seconds from the start of each window of the model."""

_FIRST_WORD = 1000
_VOCABULARY = 51_865
_END, _START, _SPANISH, _NO_TIMESTAMPS = 50_257, 50_258, 50_262, 50_363
_SPECIAL = {
    50_256: "",  # by which CTranslate2 knows a multilingual one
    _END: "<|endoftext|>",
    _START: "<|startoftranscript|>",
    50_259: "<|en|>",
    _SPANISH: "<|es|>",
    50_358: "<|translate|>",
    50_359: "<|transcribe|>",
    50_360: "<|startoflm|>",
    50_361: "<|startofprev|>",
    50_362: "<|nocaptions|>",
    _NO_TIMESTAMPS: "<|notimestamps|>",
}
_VOWELS = ((700, 1200, 2500), (300, 2200, 2900), (500, 900, 2400), (350, 800, 2300))


def write_model(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    """Write a Whisper in CTranslate2 format whose decoder attends to positions alone: it says `words` in Spanish."""
    import ctranslate2
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 64)
    sizes |= {f"{tower}_{part}": 1 for tower in ("encoder", "decoder") for part in ("layers", "attention_heads")}
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(vocab_size=_VOCABULARY, **sizes))
    end = _NO_TIMESTAMPS + 1 + round(END_S / 0.02)
    said = [_SPANISH, 50_359, _NO_TIMESTAMPS + 1, *range(_FIRST_WORD, _FIRST_WORD + len(words)), end, _END]
    decoder = model.model.decoder
    with torch.no_grad():
        (layer,) = decoder.layers
        for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            part.weight.zero_()
            part.bias.zero_()
        decoder.embed_tokens.weight.zero_()
        decoder.embed_positions.weight.zero_()
        for place, token in enumerate(said):
            decoder.embed_tokens.weight[token, place] = 4.0
            decoder.embed_positions.weight[place:, place] = 40.0
            decoder.embed_positions.weight[place + 1 :, place] = 0.0
        decoder.embed_positions.weight[len(said) - 1 :, len(said) - 1] = 40.0
    source = folder.parent / f"{folder.name}-source"
    model.save_pretrained(source)
    _write_tokenizer(source, words)
    ctranslate2.converters.TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "lang_ids": [50_259, _SPANISH]}))
    return folder


def _write_tokenizer(folder: Path, words: tuple[str, ...]) -> None:
    import tokenizers
    import transformers

    names = {number: f"t{number}" for number in range(_VOCABULARY)} | _SPECIAL
    alphabet = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for number, word in enumerate(words):
        ((letters, _),) = alphabet.pre_tokenize_str(f" {word}")
        names[_FIRST_WORD + number] = letters
    vocabulary = {name: number for number, name in names.items()}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="t0"))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)


def voice(duration_s: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """A buzz through the formants of changing vowels, five syllables a second, which a detector takes for speech."""
    random = np.random.default_rng(seed)
    count = int(duration_s * RATE)
    pitch = 120 + 15 * np.sin(2 * np.pi * 2.1 * np.arange(count) / RATE)
    buzz = np.diff(np.floor(np.cumsum(pitch / RATE)), prepend=0) + 0.02 * random.normal(size=count)
    waveform = np.zeros(count)
    syllable = int(0.18 * RATE)
    for start in range(0, count, syllable):
        part = buzz[start : start + syllable]
        frequencies = np.fft.rfftfreq(len(part), 1 / RATE)
        gain = sum(1 / (1 + ((frequencies - formant) / 60) ** 2) for formant in _VOWELS[random.integers(len(_VOWELS))])
        waveform[start : start + syllable] = np.fft.irfft(np.fft.rfft(part) * gain, len(part)) * np.hanning(len(part))
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)
