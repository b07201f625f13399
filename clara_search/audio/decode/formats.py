"""Which formats are read: suffixes of files, FFmpeg's demuxers, and the first bytes of recordings."""

from __future__ import annotations

PCM_SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .aif .aiff .aifc .afc .au .snd .caf .voc .sph .nist .paf .ircam .svx .8svx .pvf".split()
)
CODED_SUFFIXES = frozenset(
    (
        ".flac .ogg .oga .opus .spx .mp3 .mp2 .mp1 .mpa .mpga .m4a .m4b .m4r .aac .adts .ac3 .eac3 .ec3 .dts .dtshd "
        ".amr .awb .gsm .wma .ape .tta .wv .mpc .tak .dsf .ra .mka .weba .shn"
    ).split()
)
FILM_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3gpp .3g2 .mkv .webm .ogv .ogx .avi .flv .f4v .wmv .asf .mpg .mpeg .vob .mts .m2ts .rm "
    ".rmvb .mxf .nut".split()
)
AUDIO_SUFFIXES = PCM_SUFFIXES | CODED_SUFFIXES | FILM_SUFFIXES
"""Suffixes that count as audio when a folder is listed (lower case, dot included): those that the backends decode."""

SNIFFED_SUFFIXES = frozenset({".ts"})
"""Suffixes of recordings and of other files (MPEG transport streams, TypeScript): the content decides."""

SNIFF_BYTES = 2048
"""As many bytes of a file are looked at."""

FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "mxf,nut,ogg,rm,shn,tak,truehd,tta,voc,w64,wav,webm,wv"
)
"""Demuxers that read the file they are given and nothing else: no lists of other files, no descriptions of streams."""

FFMPEG_OPTIONS = {"format_whitelist": FFMPEG_FORMATS, "protocol_whitelist": "none"}
"""Formats are recognised by content: a file called a.m4a may be an ffconcat list of others, or open sockets (SDP)."""

LOSSLESS_CODECS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape", "tak", "shorten", "mlp", "truehd", "dsd")
"""Beginnings of names of codecs whose samples are the file's own, also if they are not finite or very loud."""

UNTIMED_FORMATS = frozenset(
    (
        "wav w64 aiff au caf voc mp3 aac ac3 eac3 amr amrnb amrwb ape tta wv dts dtshd mpc mpc8 tak truehd dsf shn gsm"
    ).split()
)
"""Demuxers of bare streams, whose times are counted or estimated."""

ARBITRARY_START_FORMATS = frozenset({"mpegts", "mpeg", "ogg", "rm"})
"""Demuxers of streams whose clock may start anywhere and jump: players show times from the first one on."""

EXACT_FORMATS = frozenset({"mov", "tta", "ape"})
"""Demuxers that state the exact duration of a track."""

_MAGIC: tuple[tuple[int, bytes], ...] = (
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b"caff"),
    (0, b".snd"),
    (0, b"wvpk"),
    (0, b"TTA1"),
    (0, b"MAC "),
    (0, b"MPCK"),
    (0, b"MP+"),
    (0, b"tBaK"),
    (0, b"#!AMR"),
    (0, b"DSD "),
    (0, b"ajkg"),
    (0, b".RMF"),
    (0, b"FLV\x01"),
    (0, b"\x0b\x77"),
    (0, b"\x7f\xfe\x80\x01"),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b"Creative Voice File"),
    (0, b"NIST_1A"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\x00\x00\x01\xba"),
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
)
"""Offset and first bytes of recordings, and of films, which may have sound."""

_RIFF_FORMS = frozenset({b"WAVE", b"AVI ", b"AIFF", b"AIFC", b"8SVX", b"16SV"})
_TS_PACKET = 188


_GSM_FRAME = 33


def is_raw_gsm(head: bytes) -> bool:
    """Tell whether a file starts with two frames of GSM 06.10, which nothing else than its suffix announces."""
    return len(head) > _GSM_FRAME and head[0] >> 4 == head[_GSM_FRAME] >> 4 == 0xD


def looks_like_audio(head: bytes) -> bool:
    """Tell whether the first bytes of a file, `SNIFF_BYTES` of them or all, are those of a recording or a film."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        return head[8:12] in _RIFF_FORMS
    if any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC):
        return True
    if len(head) > 2 * _TS_PACKET and head[0] == head[_TS_PACKET] == head[2 * _TS_PACKET] == 0x47:
        return True
    return _starts_with_frames(head)


def _starts_with_frames(head: bytes) -> bool:
    """Tell whether `head` starts with two frames of MPEG audio or of AAC in a row."""
    size = mpeg_frame_bytes(head[:4]) or _adts_frame_bytes(head[:6])
    following = head[size : size + 6]
    return bool(size) and bool(mpeg_frame_bytes(following[:4]) or _adts_frame_bytes(following))


_MPEG_KBITS = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates in kbit/s by version (3: MPEG-1) and layer bits (3: layer I)."""

_MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mpeg_frame_header(head: bytes) -> tuple[int, int, int, int] | None:
    """Return version bits, samples a frame, rate in Hz, and bytes of the frame of an MPEG audio header; None if none.

    A frame of free bit rate has 0 bytes here.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 0 or index == 15 or rate_index == 3:
        return None
    rate = _MPEG_RATES[version][rate_index]
    kbits = _MPEG_KBITS[3 if version == 3 else 2, layer if version == 3 or layer == 3 else 2][index]
    if layer == 3:
        return version, 384, rate, 4 * (12_000 * kbits // rate + padding) if kbits else 0
    samples = 1152 if layer == 2 or version == 3 else 576
    return version, samples, rate, samples * kbits * 125 // rate + padding if kbits else 0


def mpeg_frame_bytes(head: bytes) -> int:
    """Return the bytes of the MPEG audio frame with this header; 0 if it is none."""
    header = mpeg_frame_header(head)
    return header[3] if header else 0


def _adts_frame_bytes(head: bytes) -> int:
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
