"""A second look says where in a moment the query is, to half a second."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import clara_search
from clara_search.retrieval.locate import peak_second
from indexer.pipeline import index as index_corpus
from tests.helpers import SAMPLE_RATE, tone

CENTRES = np.arange(0.0, 20.0, 0.5)
MINUTES = 5


def slow_peak(scores, centres):
    """Walk to both sides of the best window while the score stays above the level."""
    best = max(range(len(scores)), key=lambda place: scores[place])
    level = (scores[best] + np.median(scores)) / 2
    first = last = best
    while first > 0 and scores[first - 1] >= level:
        first -= 1
    while last < len(scores) - 1 and scores[last + 1] >= level:
        last += 1
    heights = [scores[place] - level for place in range(first, last + 1)]
    return sum(h * c for h, c in zip(heights, centres[first : last + 1], strict=True)) / sum(heights)


@pytest.mark.parametrize("event_s", [0.0, 0.25, 7.3, 12.0, 19.5])
def test_the_peak_of_a_bump_is_its_middle(event_s):
    scores = np.exp(-(((CENTRES - event_s) / 1.2) ** 2))
    assert peak_second(scores, CENTRES) == pytest.approx(event_s, abs=0.3)
    noisy = scores + 0.05 * np.random.default_rng(0).normal(size=len(CENTRES))
    assert peak_second(noisy, CENTRES) == pytest.approx(slow_peak(noisy, CENTRES), abs=1e-6)


def test_a_second_event_does_not_move_the_peak_and_flat_scores_have_one():
    two = np.exp(-((CENTRES - 4) ** 2)) + 0.9 * np.exp(-((CENTRES - 15) ** 2))
    assert peak_second(two, CENTRES) == pytest.approx(4, abs=0.1)
    assert peak_second(np.full(5, 0.3), CENTRES[:5]) == 0.0


@pytest.fixture
def long_recordings(tmp_path):
    """Recordings of five minutes of quiet noise, in each a tone of two seconds; and the middle of each tone."""
    rng = np.random.default_rng(0)
    middles = {}
    for number, start_s in enumerate([3.2, 61.9, 148.4, 203.0, 297.1]):
        waveform = 0.002 * rng.normal(size=MINUTES * 60 * SAMPLE_RATE).astype(np.float32)
        start = round(start_s * SAMPLE_RATE)
        waveform[start : start + 2 * SAMPLE_RATE] += tone(3000, 2.0)
        path = tmp_path / f"night-{number}.wav"
        soundfile.write(path, waveform, SAMPLE_RATE)
        middles[str(path)] = start_s + 1
    return middles


def test_an_event_in_five_minutes_is_found_to_half_a_second(database, encoder, long_recordings):
    index_corpus(list(long_recordings), database, encoder, window_s=10.0, hop_s=5.0)
    index = clara_search.open(database.path, encoder=encoder)
    hits = index.search(audio=tone(3000, 2.0), sample_rate=SAMPLE_RATE)
    assert {hit.uri for hit in hits} == set(long_recordings)
    for hit in hits:
        assert hit.start_s <= long_recordings[hit.uri] <= hit.end_s
        assert hit.end_s - hit.start_s <= 20
    located = index.locate(hits)
    assert [hit.id for hit in located] == [hit.id for hit in hits]
    errors = [abs(hit.best_s - long_recordings[hit.uri]) for hit in located]
    assert np.median(errors) <= 0.5
    assert max(errors) <= 0.75


def test_a_recording_that_moved_keeps_its_hit_and_leaves_a_note(database, encoder, recordings):
    index_corpus([recordings], database, encoder, window_s=10.0, hop_s=5.0)
    (recordings / "low.wav").rename(recordings / "elsewhere.wav")
    index = clara_search.open(database.path, encoder=encoder)
    hits = index.search(audio=tone(200), sample_rate=SAMPLE_RATE)
    located = index.locate(hits)
    assert len(located) == 3
    assert [hit.uri for hit in located] == [hit.uri for hit in hits]
    assert located.notes == []  # shorter than two seconds: the middle is near enough
    assert [hit.best_s for hit in located] == pytest.approx([0.5] * 3)


def test_a_long_recording_that_moved_leaves_a_note(tmp_path, database, encoder):
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(200, 15.0), SAMPLE_RATE)
    index_corpus([path], database, encoder, window_s=10.0, hop_s=5.0)
    path.unlink()
    index = clara_search.open(database.path, encoder=encoder)
    hits = index.search(audio=tone(200), sample_rate=SAMPLE_RATE)
    located = index.locate(hits)
    assert list(located) == list(hits)
    assert len(located.notes) == 1
    assert located.notes[0].startswith("hit 1 is not located: ")
    assert "not there any more" in located.notes[0]


def test_texts_and_answers_without_a_query_stay_as_they_are(tmp_path, database, encoder):
    texts = tmp_path / "captions.txt"
    texts.write_text("a dog barks\n", encoding="utf-8")
    index_corpus([texts], database, encoder)
    index = clara_search.open(database.path, encoder=encoder)
    hits = index.search("a dog barks")
    assert list(index.locate(hits)) == list(hits)
    hits.query = None
    assert index.locate(hits) is hits
