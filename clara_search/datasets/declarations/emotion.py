"""Collections of emotional speech."""

from __future__ import annotations

from clara_search.datasets.dataset import Dataset, Table

_CREMA_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}

EMOTION = (
    Dataset(
        "meld",
        licence="GPL-3.0; the recordings are of a television series",
        citation="Poria et al., ACL 2019, arXiv:1810.02508",
        home="https://affective-meld.github.io",
        counts={"split=train": 9989, "split=valid": 1109, "split=test": 2610},
        files=("*_sent_emo.csv", "*/*_sent_emo.csv"),
        pattern=r"(?:.*/)?(?=(?P<published>train|dev|test))(?P<split>train|dev|test)_sent_emo\.csv",
        table=Table(),
        # In the archive of the test split stand others of the same name: each split has its own folder.
        audio=(
            "{split}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{folder}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{published}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{split}/{published}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
        ),
        words={
            "published": {
                "train": "train_splits",
                "dev": "dev_splits_complete",
                "test": "output_repeated_splits_test",
            }
        },
        columns={
            "text": "{Utterance}",
            "speaker": "{Speaker}",
            "split": "{split}",
            "emotion": "{Emotion}",
            "sentiment": "{Sentiment}",
            "dialogue": "{split}-{Dialogue_ID}",
        },
        labels=("emotion", "sentiment"),
    ),
    Dataset(
        "ravdess",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone and Russo, PLoS ONE 13(5), 2018, doi:10.1371/journal.pone.0196391",
        home="https://zenodo.org/records/1188976",
        counts={"channel=speech": 1440},
        files=("Actor_*/*.wav", "*/Actor_*/*.wav"),
        pattern=r".*/03-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<statement>\d\d)-\d\d-"
        r"(?=(?P<gender>\d\d))(?P<actor>\d\d)\.wav",
        words={
            "channel": {"01": "speech", "02": "song"},
            "emotion": {
                "01": "neutral",
                "02": "calm",
                "03": "happy",
                "04": "sad",
                "05": "angry",
                "06": "fearful",
                "07": "disgust",
                "08": "surprised",
            },
            "intensity": {"01": "normal", "02": "strong"},
            "statement": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
            "gender": {f"{actor:02}": "male" if actor % 2 else "female" for actor in range(1, 25)},
        },
        columns={
            "text": "{statement}",
            "speaker": "{actor}",
            "emotion": "{emotion}",
            "intensity": "{intensity}",
            "gender": "{gender}",
            "channel": "{channel}",
        },
        labels=("emotion", "intensity", "gender", "channel"),
        speaker_folds=5,
    ),
    Dataset(
        "crema-d",
        licence="Open Database License 1.0",
        citation="Cao et al., IEEE Transactions on Affective Computing 5(4), 2014, doi:10.1109/TAFFC.2014.2336244",
        home="https://github.com/CheyneyComputerScience/CREMA-D",
        counts={"all": 7442},
        files=("AudioWAV/*.wav", "*/AudioWAV/*.wav", "*.wav"),
        pattern=r"(?:.*/)?(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{2})\.wav",
        words={
            "sentence": _CREMA_SENTENCES,
            "emotion": {
                "ANG": "angry",
                "DIS": "disgust",
                "FEA": "fearful",
                "HAP": "happy",
                "NEU": "neutral",
                "SAD": "sad",
            },
            "level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"},
        },
        columns={"text": "{sentence}", "speaker": "{actor}", "emotion": "{emotion}", "level": "{level}"},
        labels=("emotion", "level"),
        speaker_folds=5,
    ),
    Dataset(
        "emov-db",
        licence="",
        citation="Adigwe et al., 2018, arXiv:1806.09514",
        home="https://github.com/numediart/EmoV-DB",
        files=("*/*/*.wav", "*/*.wav"),
        pattern=r"(?i)(?:.*/)?(?P<speaker>bea|jenie|josh|sam)[/_](?:.*/)?(?P<emotion>[a-z]+)_[\d-]+_\d+\.wav",
        words={
            "emotion": {
                "anger": "angry",
                "amused": "amused",
                "disgust": "disgusted",
                "neutral": "neutral",
                "sleepiness": "sleepy",
            }
        },
        columns={"speaker": "{speaker}", "emotion": "{emotion}"},
        labels=("emotion",),
        speaker_folds=4,
        aliases=("emovdb", "emotional voices database"),
    ),
    Dataset(
        "emns",
        licence="",
        citation="Noriy, Yang and Zhang, 2023, arXiv:2305.13137",
        home="https://www.openslr.org/136",
        files=("metadata.csv", "*/metadata.csv"),
        pattern=r".*metadata\.csv",
        table=Table("|"),
        audio=("{folder}/{audio_recording}", "{folder}/cleaned_webm/{audio_recording}"),
        columns={
            "text": "{utterance}",
            "speaker": "{user_id}",
            "emotion": "{emotion}",
            "gender": "{gender}",
            "level": "{level}",
            "description": "{description}",
        },
        labels=("emotion", "gender", "level"),
    ),
)
