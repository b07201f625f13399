"""Calibration reads the recordings of a manifest as all others do."""

from pathlib import Path

import numpy as np
import soundfile

from clara_search.classification.calibrate_classifier import calibrate_classifier
from clara_search.classification.classifier import ZeroShotClassifier
from clara_search.datasets.labelled import read_clips
from tests.helpers import ToneEncoder, tone


def test_calibration_cuts_the_segments_of_a_manifest(tmp_path: Path, encoder: ToneEncoder) -> None:
    low, high = tone(200, 1.0), tone(5000, 1.0)
    soundfile.write(tmp_path / "both.wav", np.concatenate([low, high]), encoder.sample_rate)
    (tmp_path / "m.tsv").write_text("path\tlabel\tstart_s\tend_s\nboth.wav\tlow\t0\t1\nboth.wav\thigh\t1\t2\n")
    classifier = ZeroShotClassifier(["low", "high"], encoder.encode_audio([low, high]))
    calibration = calibrate_classifier(classifier, encoder, read_clips(tmp_path / "m.tsv"), "label")
    assert (calibration.num_examples, calibration.accuracy) == (2, 1.0)
