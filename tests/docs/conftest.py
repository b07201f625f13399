"""The recordings that README and docs talk about."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from trainer.phones.espeak import speak

SENTENCES = {
    "greeting": ("en-us+f3", "good morning"),
    "weather": ("en+m3", "it is raining again"),
    "meeting": ("en-us+m1", "the meeting begins at nine"),
    "door": ("en+f2", "somebody is at the door"),
    "train": ("en+m7", "the train to London is late"),
    "music": ("en-us+f4", "please turn the music down"),
    "coffee": ("en-gb-scotland", "a cup of coffee with milk"),
    "farewell": ("en-us+Andy", "see you tomorrow"),
}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `recordings/` in it: eight sentences, spoken by espeak-ng."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "recordings").mkdir()
    for name, (voice, text) in SENTENCES.items():
        waveform, rate = speak(text, voice, 160)
        soundfile.write(folder / "recordings" / f"{name}.wav", waveform, rate)
    return folder
