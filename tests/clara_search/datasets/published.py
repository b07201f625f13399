"""Three recordings of every declared collection, laid out as it is published, and what a manifest says of the first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import write_tone


@dataclass(frozen=True)
class Published:
    """Tables by path, recordings, and the columns of the first row."""

    audio: tuple[str, ...]
    first: dict[str, str]
    tables: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write tables and tones to `folder`; what is not wav is a FLAC or Ogg by another name."""
        for name, content in self.tables.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        for number, name in enumerate(self.audio):
            made = write_tone(folder / "made.wav", 200 * (number + 1), duration_s=0.1)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            made.replace(folder / name)
        return folder


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"

PUBLISHED = {
    "meld": Published(
        (
            "train_splits/dia0_utt0.mp4",
            "dev_splits_complete/dia0_utt0.mp4",
            "output_repeated_splits_test/dia0_utt0.mp4",
        ),
        {
            "text": "Oh my God, he\u2019s lost it.",
            "speaker": "Phoebe",
            "split": "train",
            "emotion": "sadness",
            "sentiment": "negative",
            "dialogue": "train-0",
        },
        {
            "train_sent_emo.csv": MELD_HEADER
            + '1,"Oh my God, he\x92s lost it.",Phoebe,sadness,negative,0,0,4,7,"a","b"\n',
            "dev_sent_emo.csv": MELD_HEADER + '1,"What?",Monica,surprise,negative,0,0,4,7,"a","b"\n',
            "test_sent_emo.csv": MELD_HEADER + '1,"Hey!",Joey,joy,positive,0,0,4,7,"a","b"\n',
        },
    ),
    "ravdess": Published(
        tuple(
            f"Actor_{actor}/03-01-{emotion}-02-01-01-{actor}.wav"
            for actor, emotion in (("01", "05"), ("02", "03"), ("12", "01"))
        ),
        {
            "text": "Kids are talking by the door",
            "speaker": "01",
            "emotion": "angry",
            "intensity": "strong",
            "gender": "male",
            "channel": "speech",
            "fold": "1",
        },
    ),
    "crema-d": Published(
        ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_HI.wav", "AudioWAV/1003_TIE_NEU_XX.wav"),
        {"text": "Don't forget a jacket", "speaker": "1001", "emotion": "angry", "level": "unspecified", "fold": "1"},
    ),
    "emov-db": Published(
        ("bea/anger/anger_1-28_0001.wav", "jenie/Amused/amused_1-15_0011.wav", "sam/neutral/neutral_29-56_0031.wav"),
        {"speaker": "bea", "emotion": "angry", "fold": "1"},
    ),
    "emns": Published(
        ("wavs/1.wav", "wavs/2.wav", "cleaned_webm/wavs/3.wav"),
        {
            "text": "He is here.",
            "speaker": "3",
            "emotion": "Happy",
            "gender": "female",
            "level": "8",
            "description": "glad",
        },
        {
            "metadata.csv": "id|utterance|description|emotion|date_created|status|"
            "gender|age|level|audio_recording|user_id\n"
            + "".join(f"{n}|He is here.|glad|Happy|2022|Complete|female|20s|8|wavs/{n}.wav|3\n" for n in (1, 2, 3))
        },
    ),
    "esc-50": Published(
        ("audio/1-100032-A-0.wav", "audio/2-100038-A-14.wav", "audio/5-100210-A-36.wav"),
        {"category": "dog", "fold": "1", "recording": "100032", "language": "zxx"},
        {
            "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
            "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
            "2-100038-A-14.wav,2,14,chirping_birds,False,100038,A\n"
            "5-100210-A-36.wav,5,36,vacuum_cleaner,False,100210,A\n"
        },
    ),
    "urbansound8k": Published(
        ("audio/fold5/100032-3-0-0.wav", "audio/fold5/100263-2-0-117.wav", "audio/fold10/100648-1-0-0.wav"),
        {"class": "dog_bark", "fold": "5", "recording": "100032"},
        {
            "metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
            "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
            "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
            "100648-1-0-0.wav,100648,4.8,5.4,2,10,1,car_horn\n"
        },
    ),
    "fsd50k": Published(
        ("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav", "FSD50K.eval_audio/37199.wav"),
        {"labels": "Electric_guitar,Guitar", "split": "train"},
        {
            "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n"
            '64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n16399,"Rain","/m/06mb1",val\n',
            "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n37199,"Rain","/m/06mb1"\n',
        },
    ),
    "mswc": Published(
        ("en/clips/aachen/a.opus", "en/clips/house/b.opus", "en/clips/house/c.opus"),
        {"text": "aachen", "word": "aachen", "speaker": "s1", "gender": "NAN", "split": "train", "language": "en"},
        {
            "en/en_splits.csv": "SET,LINK,WORD,VALID,SPEAKER,GENDER\n"
            "TRAIN,aachen/a.opus,aachen,True,s1,NAN\nDEV,house/b.opus,house,True,s2,FEMALE\n"
            "TEST,house/c.opus,house,True,s3,MALE\n"
        },
    ),
    "common-voice": Published(
        ("cv/de/clips/1.mp3", "cv/de/clips/2.mp3", "cv/de/clips/3.mp3"),
        {
            "text": 'Er sagte "ja.',
            "speaker": "x1",
            "age": "twenties",
            "gender": "male",
            "split": "train",
            "language": "de",
        },
        {
            f"cv/de/{split}.tsv": "client_id\tpath\tsentence\tup_votes\tdown_votes\t"
            "age\tgender\taccents\tvariant\tlocale\tsegment\n"
            f'x{n}\t{n}.mp3\tEr sagte "ja.\t2\t0\ttwenties\tmale\t\t\tde\t\n'
            for n, split in ((1, "train"), (2, "dev"), (3, "test"))
        },
    ),
    "audioset": Published(
        ("balanced_train_segments/YAAA.wav", "balanced_train_segments/-BBB.flac", "eval_segments/CCC.wav"),
        {"labels": "Speech,Bark", "split": "train", "recording": "AAA"},
        {
            "balanced_train_segments.csv": "# Segments csv created\n# num_ytids=2\n"
            "# YTID, start_seconds, end_seconds, positive_labels\n"
            'AAA, 30.000, 40.000, "/m/09x0r,/m/05tny_"\n-BBB, 0.000, 10.000, "/m/09x0r"\n',
            "eval_segments.csv": "# a\n# b\n# YTID, start_seconds, end_seconds, positive_labels\n"
            'CCC, 30.000, 40.000, "/m/05tny_"\n',
            "class_labels_indices.csv": 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05tny_,"Bark"\n',
        },
    ),
    "voxpopuli": Published(
        ("it/2018/20180613-a.ogg", "it/2019/20190101-b.ogg", "it/2019/20190101-c.ogg"),
        {"text": "buongiorno a tutti", "speaker": "7", "gender": "male", "split": "train", "language": "it"},
        {
            f"it/asr_{split}.tsv": "id\traw_text\tnormalized_text\tspeaker_id\t"
            "split\tgender\tis_gold_transcript\taccent\n"
            f"{name}\tBuongiorno a tutti.\tbuongiorno a tutti\t7\t{split}\tmale\tTrue\tNone\n"
            for name, split in (("20180613-a", "train"), ("20190101-b", "dev"), ("20190101-c", "test"))
        },
    ),
}
