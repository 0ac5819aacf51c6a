"""Names, words and the people made of them, in the scripts and with the slips of real records."""

# ruff: noqa: RUF001 - letters that look like others are the point.

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from .table import TODAY, UNKNOWN_DAY, dice

if TYPE_CHECKING:
    from random import Random

DOMAIN = "anidaso.example"

GIVEN = (
    "Kofi", "Kwame", "Kwabena", "Kwaku", "Yaw", "Kojo", "Kwasi", "Ama", "Akosua", "Adwoa", "Abena",
    "Akua", "Yaa", "Afia", "Esi", "Efua", "Ɛsi", "Ɔkyere", "Mawuli", "Mawuƒemɔ", "Sɛlɔm", "Dzifa",
    "Elikem", "Naa Dɛdɛi", "Nii Ayi", "Tɛtteh", "Kɔɔkɔ", "Ŋmɛŋmɛ", "Fuseini", "Amina", "Mariama",
    "Emmanuel", "Grace", "Comfort", "Blessing", "Gifty", "Ebenezer", "Priscilla",
)  # fmt: skip
FAMILY = (
    "Mensah", "Owusu", "Osei", "Boateng", "Asante", "Appiah", "Agyeman", "Frɛmpɔŋ", "Ɔpoku",
    "Ansah", "Quaye", "Lamptey", "Tɛttɛh", "Nɔɔtei", "Agbeko", "Ƒiagbedzi", "Kɔƒi", "Dzɔkoto",
    "Amegashie", "Adjei", "Danquah", "Sarpong", "Yeboah", "Alhassan", "Issahaku", "Nkrumah",
)  # fmt: skip
FEMALE = frozenset((
    "Ama", "Akosua", "Adwoa", "Abena", "Akua", "Yaa", "Afia", "Esi", "Efua", "Ɛsi", "Dzifa",
    "Naa Dɛdɛi", "Amina", "Mariama", "Grace", "Comfort", "Blessing", "Gifty", "Priscilla", "Layla",
    "Priya", "Lihua",
))  # fmt: skip
MALE = frozenset((
    "Kofi", "Kwame", "Kwabena", "Kwaku", "Yaw", "Kojo", "Kwasi", "Mawuli", "Elikem", "Nii Ayi",
    "Tɛtteh", "Fuseini", "Emmanuel", "Ebenezer", "Yusuf", "Arjun", "Xiaoming",
))  # fmt: skip
# Families from abroad: given name, family name, and the name as they write it.
ABROAD = (
    ("Layla", "Haddad", "ليلى حداد"),
    ("Xiaoming", "Wang", "王小明"),
    ("Priya", "Sharma", "प्रिया शर्मा"),
    ("Yusuf", "Khoury", "يوسف الخوري"),
    ("Lihua", "Chen", "陈丽华"),
    ("Arjun", "Patel", "अर्जुन पटेल"),
)
# Names that break whoever quotes by hand, by their place in every 97.
ODD = {
    13: ('Kwame "Junior"', "O'Dwyer-Nkansah"),
    14: ("Back\\slash", "C:\\new\\table"),
    15: ("Tab\tbed", "Two\nLines\r\n"),
    16: ("\\N", "\\."),
    19: ("  Ama", "Trailing  "),
    20: ("Rene\u0301e", "Zoë-𝒜; DROP TABLE students;--"),
}
ABROAD_AT, DUPLICATE_AT, PERIOD = {5: 0, 6: 1, 7: 2}, 12, 97
SPELLINGS = {
    "Adwoa": "Adjoa", "Kwabena": "Kobina", "Kwaku": "Kweku", "Akosua": "Akosuah", "Yaa": "Yaah",
    "Mensah": "Mensa", "Owusu": "Owusuh", "Agyeman": "Agyemang", "Adjei": "Agyei", "Osei": "Ossei",
}  # fmt: skip
LANGUAGES = ("Twi", "Ga", "Eʋegbe", "Fante", "Dagbani", "Hausa", "English", "Français", "العربية")
TOWNS = ("Aburi", "Koforidua", "Hohoe", "Teshie", "Tamale", "Keta", "Ɔbuase", "Aŋlɔga", "Kumasi")
REMARKS = (
    "Well done", "Ayɛ adwuma pa", "Ɛyɛ papa 👏🏾", "Wɔ dɔ nyuie", "See me after class", "ممتاز",
    "很好", "बहुत अच्छा", "Copied?\tsee row 3", 'Wrote "x = \\frac{1}{2}"\non the back', " ", "",
)  # fmt: skip
SUBJECTS = (
    "Projector in Form 2B shows no picture", "Wi-Fi drops in the science block 😕",
    "Me laptop nyɛ adwuma", "Kɔmpiuta la mele dɔ wɔm o", "Kɔmpiuta lɛ tsuuu nii",
    "الطابعة في المكتبة لا تعمل", "图书馆的打印机坏了", "पुस्तकालय का प्रिंटर काम नहीं कर रहा",
    "Password reset, please", "RE: RE: password  ", "Path is C:\\Users\\bursar\\new\\table.xls",
    'The screen says "No boot device"', "UPS beeps after dumsor 🔌", "Mouse\tand keyboard missing",
)  # fmt: skip
SENTENCES = (
    "It was fine yesterday.", "Meda wo ase.", "Akpe kakaka!", "Oyiwaladɔŋŋ.", "شكرا جزيلا",
    "谢谢 🙏🏾", "धन्यवाद", "I turned it off and on again.", "The lights went off, then it stopped.",
    "See the log:\n\tE: 'disk' \"sda\" \\dev\\null", "We need it for the exam on Monday.", "\\N",
    "", "The cable was loose; done.", "Replaced the toner 🖨️", "Waiting for parts from Accra.",
    "\\.",
)  # fmt: skip

_LATIN = str.maketrans({"ɛ": "e", "ɔ": "o", "ŋ": "ng", "ƒ": "f", "ʋ": "v", "Ɛ": "E", "Ɔ": "O",
                        "Ŋ": "Ng", "Ƒ": "F"})  # fmt: skip


class Person(NamedTuple):
    """A person as a clerk has typed them."""

    given: str
    family: str
    native: str | None
    email: str | None
    phone: str | None
    born: date


def plain(name: str) -> str:
    """Return ``name`` in English letters, as e-mail addresses and lazy clerks have it."""
    return name.translate(_LATIN)


def sex_of(given: str) -> str | None:
    """Return whose name ``given`` is, as records have it, or None if it may be anybody's."""
    return "female" if given in FEMALE else "male" if given in MALE else None


def person(seed: int, group: str, n: int, ages: tuple[int, int]) -> Person:
    """Return the n-th person of ``group``, of an age in years between ``ages``.

    One in 97 is the person before once more, in another spelling; others have odd names, a name
    in another script, the birthday 1900-01-01, or an e-mail address that is not quite one.
    """
    rng, place = dice(seed, "person", group, n), n % PERIOD
    if place == DUPLICATE_AT and n > 1:
        twin = person(seed, group, n - 1, ages)
        return twin._replace(
            given=SPELLINGS.get(twin.given, plain(twin.given).upper()),
            family=SPELLINGS.get(twin.family, plain(twin.family).upper()),
            email=twin.email and twin.email.title(),
        )
    given, family, native = rng.choice(GIVEN), rng.choice(FAMILY), None
    if place in ODD:
        given, family = ODD[place]
    elif place in ABROAD_AT or rng.random() < 0.04:
        given, family, native = ABROAD[ABROAD_AT.get(place, rng.randrange(len(ABROAD)))]
    elif place == 8:
        native = "✨Ama🇬🇭👩🏾‍🏫"
    born = TODAY - timedelta(days=rng.randrange(ages[0] * 365, ages[1] * 365))
    phone = f"+233 {rng.choice((20, 24, 27, 50))} {rng.randrange(10**6, 10**7)}"
    return Person(
        given=given,
        family=family,
        native=native,
        email=_email(rng, place, given, family),
        phone=rng.choices((phone, phone.replace("+233 ", "0"), "", None), (80, 12, 4, 4))[0],
        born=UNKNOWN_DAY if place == 17 or rng.random() < 0.005 else born,
    )


def _email(rng: Random, place: int, given: str, family: str) -> str | None:
    local = ".".join(re.sub("[^a-z]", "", plain(part).lower()) or "x" for part in (given, family))
    email = f"{local}@{DOMAIN}"
    kinds = (email, "", None, email.upper(), email + "  ")
    fixed = {13: 1, 14: 2, 15: 3, 16: 4}.get(place)
    thrown = rng.choices(range(5), (90, 2, 3, 3, 2))[0]
    return kinds[thrown if fixed is None else fixed]


def text(rng: Random, sentences: int) -> str:
    """Return up to ``sentences`` sentences in any language."""
    return " ".join(rng.choice(SENTENCES) for _ in range(rng.randint(1, sentences)))


def photo(rng: Random) -> bytes | None:
    """Return a thumbnail's bytes: most have none, some an empty file."""
    if rng.random() < 0.7:
        return None
    return (
        b"\xff\xd8\xff\xe0\x00\\" + rng.randbytes(rng.randrange(96)) if rng.random() < 0.9 else b""
    )
