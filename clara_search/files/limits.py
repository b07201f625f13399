"""The limits on what is read of files that other people wrote: one table, and one way to allow more.

Every reader checks its limit before it takes the memory. A limit is exceeded by broken and hostile files; whoever has a
genuine one that is larger raises it, as the error says: `--limit NAME=VALUE` of a command, or

    with clara_search.limits(audio_seconds=200_000):
        ...

Limits hold for the whole process, all its threads included.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from clara_search.errors import ClaraError, ConfigError, FormatError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_HIGHEST = 1 << 62

_raised: dict[str, int] = {}
"""The values that were set, by name of the limit."""


@dataclass(frozen=True)
class Limit:
    """The most of something that is read.

    Attributes:
        name: Its name in `--limit NAME=VALUE` and in `clara_search.limits(NAME=VALUE)`.
        default: The most, unless another value is set.
        what: What is counted, in the plural, such as "bytes of a JSON file".
        reason: Why it is this large, for the documentation.
    """

    name: str
    default: int
    what: str
    reason: str

    @property
    def value(self) -> int:
        """The most that is read now."""
        return _raised.get(self.name, self.default)

    def check(self, found: float, where: object, error: type[Exception] = FormatError) -> None:
        """Raise `error` if `found` is more than the limit; its message names `where`, the limit and what allows more.

        Args:
            found: The number that was found or declared.
            where: The file, or a part of it.
            error: Class of the error.
        """
        if not found <= self.value:  # nor NaN
            raise error(self.message(f"{found:,.6g}" if isinstance(found, float) else f"{found:,}", where))

    def exceeded(self, where: object, error: type[ClaraError] = FormatError) -> ClaraError:
        """Return the error of an input with more than the limit, of which no more was read."""
        return error(self.message(f"more than {self.value:,}", where))

    def message(self, found: str, where: object) -> str:
        """Return the message of an error."""
        return (
            f"{where}: {found} {self.what}, where at most {self.value:,} are expected; if the file can be trusted, "
            f"allow more with `limit` {self.name}=NUMBER"
        )


# Files, manifests and what they name.
JSON_BYTES = Limit("json_bytes", 48 * MIB, "bytes of a JSON file", "the largest tokenizers have 35 MB")
JSON_VALUES = Limit(
    "json_values", 3_000_000, "values in JSON", "the largest tokenizers have 2 million; each takes up to 116 bytes"
)
JSON_DEPTH = Limit("json_depth", 100, "levels of nesting in JSON", "real files have ten")
ROW_BYTES = Limit("row_bytes", 16 * MIB, "bytes of a row of a manifest", "a text of a thousand pages has 2 MB")
COLUMNS = Limit("columns", 4096, "columns of a manifest or table", "wide tables of measurements have hundreds")
BATCH_BYTES = Limit(
    "batch_bytes", 256 * MIB, "bytes in memory of a batch of a Parquet or Arrow file", "of 32 recordings or 1,024 rows"
)
MANIFEST_BYTES = Limit(
    "manifest_bytes", 16 * GIB, "bytes of a fetched manifest", "a hundred million rows; a server may never stop sending"
)
HTTP_BYTES = Limit("http_bytes", 256 * MIB, "bytes of a file fetched by HTTP", "25 minutes of WAV, 4 hours of MP3")
HTTP_SECONDS = Limit("http_seconds", 300, "seconds of a request by HTTP", "of 256 MiB at 7 Mbit/s")
OBJECT_BYTES = Limit(
    "object_bytes", 512 * MIB, "bytes of an object of S3, GCS or Azure", "45 minutes of WAV, 8 hours of MP3"
)
SHARD_BYTES = Limit(
    "shard_bytes", 64 * GIB, "bytes of a shard that is copied to this machine", "usual ones have 1 to 10 GB"
)
TEXT_CHARACTERS = Limit(
    "text_characters", 100_000, "characters of a text, the rest of which is left out", "models read the first 20 pages"
)

# Recordings.
AUDIO_BYTES = Limit("audio_bytes", 4 * GIB, "bytes of a recording's file", "the largest WAV file")
AUDIO_SECONDS = Limit("audio_seconds", 86_400, "seconds of a recording", "a day of a field recorder")
AUDIO_CHANNELS = Limit("audio_channels", 64, "channels of a recording", "ambisonics of the seventh order")
AUDIO_RATE = Limit("audio_rate", 1_000_000, "samples a second of a recording", "recorders of ultrasound reach 768 kHz")
AUDIO_FREE_SECONDS = Limit(
    "audio_free_seconds", 3600, "seconds of a recording, whatever its file's size", "silence compresses to nothing"
)
AUDIO_SECONDS_PER_KB = Limit(
    "audio_seconds_per_kb",
    5,
    "seconds of a recording for each 1,000 bytes of its file",
    "after `audio_free_seconds`; speech codecs of 6 kbit/s reach 1.4",
)
WAVEFORM_BYTES = Limit(
    "waveform_bytes", 2 * GIB, "bytes in memory of a decoded recording", "9 hours, mono, at 16 kHz in float32"
)
DECODER_BYTES = Limit(
    "decoder_bytes",
    2 * GIB,
    "bytes that a decoding process may take beyond its start",
    "windows are decoded one by one",
)
WINDOWS = Limit("windows", 1_000_000, "windows of a recording", "a day, with a hop of a tenth of a second")

# Shards.
EXAMPLE_MEMBERS = Limit("example_members", 1000, "members of an example of a shard", "real ones have two to ten")
MEMBER_BYTES = Limit("member_bytes", 256 * MIB, "bytes of a member of a shard", "as `http_bytes`")
MEMBER_HEADER_BYTES = Limit("member_header_bytes", MIB, "bytes of a tar header", "names, times and owners")

# Models, heads and indices.
MODEL_PARAMETERS = Limit("model_parameters", 2_000_000_000, "parameters of a model", "three times the largest CLARA")
WEIGHTS_BYTES = Limit("weights_bytes", 16 * GIB, "bytes of a file of weights", "eight times the largest CLARA")
PICKLE_BYTES = Limit("pickle_bytes", 2 * MIB, "bytes of the pickle of a checkpoint", "a hundred bytes a tensor")
TENSORS = Limit("tensors", 20_000, "tensors of a file of weights", "large transformers have 2,000")
TENSOR_HEADER_BYTES = Limit(
    "tensor_header_bytes", 16 * MIB, "bytes of the header of a file of weights", "a hundred bytes a tensor"
)
TOKENS = Limit("tokens", 1_000_000, "tokens of a tokenizer", "multilingual ones have 260,000")
EMBEDDING_DIM = Limit("embedding_dim", 65_536, "numbers of an embedding", "models in use have up to 8,192")
FFT_SAMPLES = Limit("fft_samples", 16_384, "samples of a Fourier transform", "a third of a second at 48 kHz")
FRAMES_PER_SECOND = Limit("frames_per_second", 1000, "frames of a log-mel a second", "models in use have 50 to 200")
FRAME_NUMBERS = Limit(
    "frame_numbers", 500_000, "numbers a second of a log-mel, or of a layer over its frames", "clara-100m has 51,000"
)
LATENTS = Limit("latents", 8192, "latents of an audio tower", "clara-600m has 512")
TEXT_TOKENS = Limit("text_tokens", 16_384, "tokens of a text that a model reads", "clara-100m reads 4,096")
LABELS = Limit("labels", 100_000, "labels of a classification head", "ImageNet-21k has 22,000")
VERSION_BYTES = Limit("version_bytes", 256 * MIB, "bytes of a version of a table", "a hundred bytes a fragment")
METADATA_BYTES = Limit("metadata_bytes", MIB, "bytes of a model card, or of an index's metadata", "they have thousands")

LIMITS: Mapping[str, Limit] = {limit.name: limit for limit in list(globals().values()) if isinstance(limit, Limit)}
"""All limits by name, in the order of the documentation."""


@contextmanager
def limits(**values: int) -> Iterator[None]:
    """Allow more, or less, than the default of limits, in the whole process and until the context ends.

    Args:
        **values: The most, by name of the limit; `docs/robustness.md` lists them.

    Raises:
        ConfigError: There is no such limit, or a value is no positive whole number.
    """
    before = dict(_raised)
    set_limits(values)
    try:
        yield
    finally:
        _raised.clear()
        _raised.update(before)


def set_limits(values: Mapping[str, int]) -> None:
    """Set limits, until the process ends. Raises ConfigError as `limits` does."""
    for name, value in values.items():
        if name not in LIMITS:
            near = difflib.get_close_matches(name, LIMITS, n=1)
            raise ConfigError(f"no limit is called {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _HIGHEST:
            raise ConfigError(f"the limit {name} must be a positive whole number, got {value!r}")
    _raised.update(values)


def changed_limits() -> dict[str, int]:
    """Return the limits that were set, for `set_limits` in another process."""
    return dict(_raised)


def parse_limit(text: str) -> tuple[str, int]:
    """Return name and value of NAME=VALUE; a value may end in KiB, MiB or GiB. Raises ConfigError for other texts."""
    name, equals, value = (part.strip() for part in text.partition("="))
    digits, factor = value, 1
    for suffix, size in (("kib", KIB), ("mib", MIB), ("gib", GIB)):
        if value.lower().endswith(suffix):
            digits, factor = value[: -len(suffix)].strip(), size
    if not equals or not digits.replace("_", "").isdecimal() or len(digits) > 20:
        raise ConfigError(f"{text!r} is no limit: expected NAME=VALUE, such as json_bytes=100MiB")
    return name, int(digits) * factor
