"""Names of files: possible everywhere, told apart, and as like the photo's as can be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2i import filenames

RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "123456789"
}


def fits_windows(name):
    """Microsoft's rules for names of files, and Linux's 255 bytes."""
    return (
        0 < len(name) <= 200
        and len(name.encode()) <= 255
        and not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        and name[-1] not in ". "
        and name.split(".")[0].rstrip().upper() not in RESERVED
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_0042.jpg", "IMG_0042.jpg"),
        ("Größe 38 – Söhne.jpg", "Größe 38 – Söhne.jpg"),
        ("👗👩‍🎤 red.jpg", "👗👩‍🎤 red.jpg"),
        ('a/b:c\\d?e*f"g<h>i|j.jpg', "a_b_c_d_e_f_g_h_i_j.jpg"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("CON.jpg", "_CON.jpg"),
        ("nul", "_nul"),
        ("com1 .tar.gz", "_com1 .tar.gz"),
        ("CONE.jpg", "CONE.jpg"),
        ("ends with a dot. . ", "ends with a dot"),
        ("\u202egpj.exe", "gpj.exe"),
        ("line\nbreak.jpg", "line_break.jpg"),
        ("...", "picture"),
        ("", "picture"),
    ],
)
def test_a_name_is_kept_where_it_can_be(name, expected):
    assert filenames.safe(name) == expected


@given(st.text(max_size=300))
def test_every_name_fits(name):
    assert fits_windows(filenames.safe(name))
    assert filenames.safe(filenames.safe(name)) == filenames.safe(name)


@given(st.lists(st.text(alphabet="aA.é: /👗(1)", max_size=6), max_size=8))
def test_no_two_names_are_the_same_to_any_system(names):
    taken = set()
    made = [filenames.distinct(name, taken=taken) for name in names]
    assert len({name.casefold() for name in made}) == len(names)
    assert all(fits_windows(name) for name in made)


@pytest.mark.parametrize("letter", ["x", "é", "衣", "👗"])
def test_long_names_keep_what_tells_them_apart(letter):
    source = letter * 200 + ".jpg"
    made = [
        filenames.for_result(source, ending=f"mannequin-to-human-v1_{n}", suffix=".png")
        for n in (9, 10)
    ]
    assert all(name.startswith(letter * 40) for name in made)
    assert made[0].endswith("_mannequin-to-human-v1_9.png")
    assert made[1].endswith("_mannequin-to-human-v1_10.png")
    assert all(fits_windows(name) for name in made)
    taken = set()
    twice = [filenames.distinct(made[0], taken=taken) for _ in range(2)]
    assert twice[1].endswith(" (2).png")
    assert all(fits_windows(name) for name in twice)
