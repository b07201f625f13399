"""The languages that models have tokens for: codes, English names, other spellings.

The codes, their order and their names are those of Whisper (Radford et al., 2022) with CLARA's thirteen beside them.
"""

from __future__ import annotations

_NAMES = """
en english, zh chinese, zh-CN chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese,
pt portuguese, tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian, id indonesian, hi hindi,
fi finnish, vi vietnamese, iw hebrew, uk ukrainian, el greek, ms malay, cs czech, ro romanian, da danish, hu hungarian,
ta tamil, no norwegian, th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin, mi maori, ml malayalam,
cy welsh, sk slovak, te telugu, fa persian, lv latvian, bn bengali, sr serbian, az azerbaijani, sl slovenian,
kn kannada, et estonian, mk macedonian, br breton, eu basque, is icelandic, hy armenian, ne nepali, mn mongolian,
bs bosnian, kk kazakh, sq albanian, sw swahili, gl galician, mr marathi, pa punjabi, si sinhala, km khmer, sn shona,
yo yoruba, so somali, af afrikaans, oc occitan, ka georgian, be belarusian, tg tajik, sd sindhi, gu gujarati,
am amharic, yi yiddish, lo lao, uz uzbek, fo faroese, ht haitian creole, ps pashto, tk turkmen, nn nynorsk, mt maltese,
sa sanskrit, lb luxembourgish, my myanmar, bo tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian,
ln lingala, ha hausa, ba bashkir, jw javanese, su sundanese, gn guarani, fy western frisian,
fy-NL western frisian (netherlands), eo esperanto, cnh hakha chin, cv chuvash, dv divehi, ky kirghiz, or oriya,
rw kinyarwanda
"""

CLARA_LANGUAGES: tuple[str, ...] = tuple(entry.split()[0] for entry in _NAMES.replace("\n", " ").split(", "))
"""Codes in the order of CLARA's language tokens."""

_ALIASES = """
american en, british en, burmese my, castilian es, dhivehi dv, farsi fa, flemish nl, frisian fy, haitian ht, kyrgyz ky,
letzeburgesch lb, maldivian dv, mandarin zh, moldavian ro, moldovan ro, odia or, panjabi pa, pushto ps, sinhalese si,
slovene sl, valencian ca
"""

_CODES_OF_NAME: dict[str, list[str]] = {}
for _entry in _NAMES.replace("\n", " ").split(", "):
    _code, _name = _entry.strip().split(" ", 1)
    # The last code of a name goes first, as in the released code: "chinese" is zh-CN, and zh for a model without it.
    _CODES_OF_NAME.setdefault(_name, []).insert(0, _code.lower())
_CODES_OF_NAME |= {name: [code] for name, code in (entry.split() for entry in _ALIASES.split(","))}

# Codes that changed: today's and the one that Whisper and CLARA know. A model may have either.
_CODE_OF_CODE = {"he": "iw", "jv": "jw", "fil": "tl", "nb": "no"}
_CODE_OF_CODE |= {old: new for new, old in _CODE_OF_CODE.items()}

UNSPECIFIED = frozenset({"", "und", "mul", "zxx", "mis"})
"""What stands in place of a language that is not known (ISO 639-2): undetermined, several, none, one without a code."""


def is_specified(language: str | None) -> bool:
    """Tell whether `language` names one, and does not say that it is not known."""
    return language is not None and language.strip().lower() not in UNSPECIFIED


def language_spellings(language: str) -> list[str]:
    """Return the codes, in lower case, by which a model may know `language`, likeliest first.

    `language` is a code ("es", "zh-CN", "pt_BR") or an English name ("Spanish"), in any letter case.
    """
    written = language.strip().lower().replace("_", "-")
    codes: list[str | None] = []
    for code in _CODES_OF_NAME.get(written, [written]):
        base = code.partition("-")[0]
        codes += [code, _CODE_OF_CODE.get(code), base, _CODE_OF_CODE.get(base)]
    return list(dict.fromkeys(filter(None, codes)))
