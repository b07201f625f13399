"""Languages that models have tokens for: codes, English names, other spellings.

Codes, order and names are those of Whisper (Radford et al., 2022), plus CLARA's thirteen.
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
    # The last code of a name is tried first, as in the released code: "chinese" is zh-CN, or zh if that has no token.
    _CODES_OF_NAME.setdefault(_name, []).insert(0, _code.lower())
_CODES_OF_NAME |= {name: [code] for name, code in (entry.split() for entry in _ALIASES.split(","))}

# Today's codes and the former ones that Whisper and CLARA use. A model may have either.
_CODE_OF_CODE = {"he": "iw", "jv": "jw", "fil": "tl", "nb": "no"}
_CODE_OF_CODE |= {old: new for new, old in _CODE_OF_CODE.items()}

UNSPECIFIED = frozenset({"", "und", "mul", "zxx", "mis"})
"""Codes for "not known" (ISO 639-2): undetermined, multiple languages, no linguistic content, uncoded languages."""


def is_specified(language: str | None) -> bool:
    """Tell whether `language` names a language, rather than none or one that is not known."""
    return language is not None and language.strip().lower() not in UNSPECIFIED


def language_spellings(language: str) -> list[str]:
    """Return the codes by which a model may know a language.

    Args:
        language: A code ("es", "zh-CN", "pt_BR") or an English name ("Spanish"), in any letter case.

    Returns:
        Codes in lower case, the most likely one first.
    """
    name = language.strip().lower().replace("_", "-")
    codes: list[str | None] = []
    for code in _CODES_OF_NAME.get(name, [name]):
        base = code.partition("-")[0]
        codes += [code, _CODE_OF_CODE.get(code), base, _CODE_OF_CODE.get(base)]
    return list(dict.fromkeys(filter(None, codes)))
