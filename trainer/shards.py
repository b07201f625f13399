"""`python -m trainer shards`: any manifest, folder or shards to WebDataset shards of one rate."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import click
import soundfile
from tqdm import tqdm

from clara_search.audio import Waveform, load_audio
from clara_search.datasets.readers import read
from clara_search.datasets.spec import METADATA_FIELDS, Example
from clara_search.errors import AudioError, FormatError
from trainer.corpus import bounded_map
from trainer.tar import add_member, new_shard

FORMATS = {"flac": {"format": "FLAC", "subtype": "PCM_16"}, "opus": {"format": "OGG", "subtype": "OPUS"}}


@click.command("shards")
@click.argument("manifest")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the shards.")
@click.option("--per-shard", type=click.IntRange(min=1), default=2000, show_default=True, help="Clips in a shard.")
@click.option("--rate", type=click.IntRange(min=8000), default=16000, show_default=True, help="Hz, mono.")
@click.option("--format", "suffix", type=click.Choice(list(FORMATS)), default="flac", show_default=True)
def shards_command(manifest: str, out: Path, per_shard: int, rate: int, suffix: str) -> None:
    """Write the recordings and texts that MANIFEST names (as `pretrain --data` does) to shards in OUT.

    Run again, it goes on behind the last whole shard. What cannot be read is listed in OUT/left-out.txt.
    """
    written, left_out = write_shards(manifest, out, per_shard, rate, suffix)
    click.echo(
        f"{written} shards in {out}" + (f"; {left_out} left out, see {out / 'left-out.txt'}" if left_out else "")
    )


def write_shards(manifest: str, out: Path, per_shard: int, rate: int, suffix: str = "flac") -> tuple[int, int]:
    """Write `out`/00000.tar, 00001.tar, ... and return how many there are, and how many recordings were left out.

    Each holds what `per_shard` examples of `manifest` gave, in order, so that a whole shard is never written again; one
    is whole when it has its name. Raises FormatError for a folder whose shards were made with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {"manifest": manifest, "per_shard": per_shard, "rate": rate, "format": suffix}
    _check_settings(out / "shards.json", settings)
    problems: list[str] = []
    examples = read(manifest, lambda error: problems.append(str(error)))
    number = left_out = 0
    with ThreadPoolExecutor() as pool, tqdm(desc="clips", unit="") as bar:
        while group := list(islice(examples, per_shard)):
            path = out / f"{number:05d}.tar"
            listed = path.with_suffix(".left-out.txt")
            if not path.exists():
                bad = _write_shard(path, pool, group, number * per_shard, rate, suffix)
                listed.write_text("".join(f"{line}\n" for line in bad), encoding="utf-8")
            left_out += len(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else 0
            number += 1
            bar.update(len(group))
    lists = sorted(out.glob("*.left-out.txt"))
    lines = [line for path in lists for line in path.read_text(encoding="utf-8").splitlines()] + problems
    (out / "left-out.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return number, left_out + len(problems)


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            raise FormatError(f"{path.parent} holds shards made with other settings: {before}")
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _write_shard(
    path: Path, pool: ThreadPoolExecutor, group: list[Example], first: int, rate: int, suffix: str
) -> list[str]:
    def encoded(example: Example) -> tuple[Example, bytes | AudioError, float]:
        try:
            waveform: Waveform = load_audio(example.audio, rate)
        except AudioError as error:
            return example, error, 0.0
        content = io.BytesIO()
        soundfile.write(content, waveform, rate, **FORMATS[suffix])
        return example, content.getvalue(), len(waveform) / rate

    bad: list[str] = []
    with new_shard(path) as tar:
        for at, (example, content, seconds) in enumerate(bounded_map(pool, encoded, group, ahead=32), start=first):
            if isinstance(content, AudioError):
                bad.append(f"{example.key}: {content}")
                continue
            known = {name: getattr(example, name) for name in METADATA_FIELDS if name not in ("text", "alternatives")}
            texts = [example.text, *example.alternatives]
            known |= {
                "text": texts if len(texts) > 1 else texts[0],
                "key": example.key,
                "duration_s": round(seconds, 3),
            }
            add_member(tar, f"{at:09d}.{suffix}", content)
            add_member(tar, f"{at:09d}.json", json.dumps(known, ensure_ascii=False).encode())
    return bad
