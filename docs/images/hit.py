"""Draw docs/images/hit.png: a recording of eight sentences, and the window that answers "good morning".

Run from the root of a checkout: `.venv/bin/python docs/images/hit.py`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import soundfile

import clara_search
import indexer
from clara_search.audio.decode import load_audio
from clara_search.audio.mel import MelConfig, log_mel
from clara_search.audio.resample import resample
from trainer.phones.espeak import speak

SENTENCES = (
    ("en+m3", "it is raining again"),
    ("en+f2", "the meeting begins at nine"),
    ("en-us+m1", "somebody is at the door"),
    ("en-us+f3", "good morning"),
    ("en+m7", "the train to London is late"),
    ("en-us+f4", "please turn the music down"),
    ("en-us+Andy", "a cup of coffee with milk"),
    ("en-gb-scotland", "see you tomorrow"),
)
QUERY = "good morning"
RATE_HZ = 16_000
PAUSE_S = 0.4
WINDOW_S, HOP_S = 1.0, 0.25


def main() -> None:
    """Synthesise the recording, index it in windows of a second, search it and draw the first hit."""
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.float32)
    parts = [part for voice, text in SENTENCES for part in (resample(*speak(text, voice, 160), RATE_HZ), pause)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.wav"
        soundfile.write(path, np.concatenate(parts), RATE_HZ)
        indexer.index([path], Path(folder) / "db", window_s=WINDOW_S, hop_s=HOP_S)
        hit = clara_search.open(Path(folder) / "db").search(QUERY, k=1)[0]
        waveform = load_audio(path, RATE_HZ)
    mel = log_mel(waveform, MelConfig(sample_rate=RATE_HZ, n_mels=80)).numpy()
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(11, 2.6), layout="constrained")
    duration_s = len(waveform) / RATE_HZ
    axis.imshow(mel.T, origin="lower", aspect="auto", cmap="magma", extent=(0, duration_s, 0, 80))
    axis.axvspan(hit.start_s, hit.end_s, fill=False, edgecolor="#39ff88", linewidth=3)
    label = f'"{QUERY}"  {hit.start_s:.2f}-{hit.end_s:.2f} s'
    axis.text(hit.start_s + 0.05, 72, label, color="#39ff88", fontsize=11, fontweight="bold")
    axis.set(xlabel="seconds", ylabel="mel band", xlim=(0, duration_s), ylim=(0, 80))
    axis.set_xticks(range(int(duration_s) + 1), [str(second) for second in range(int(duration_s) + 1)])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()
