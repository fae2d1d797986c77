"""API keys: made recognisable, a typo told without a lookup, kept only as a hash."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.security.api_keys import generate_api_key, hash_api_key, is_well_formed


def test_a_new_key_is_well_formed_and_says_its_environment() -> None:
    keys = {generate_api_key("live") for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert re.fullmatch(r"ut_live_[A-Za-z0-9]{32}_[0-9a-f]{6}", key)
        assert is_well_formed(key)


def test_one_wrong_character_anywhere_is_noticed() -> None:
    key = generate_api_key("test")
    for place, character in enumerate(key):
        wrong = "x" if character != "x" else "y"
        assert not is_well_formed(key[:place] + wrong + key[place + 1 :]), place
        assert not is_well_formed(key[:place] + key[place + 1 :]), place


def test_two_swapped_characters_are_noticed() -> None:
    key = generate_api_key("test")
    for place in range(len(key) - 1):
        swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
        assert swapped == key or not is_well_formed(swapped), place


@given(st.text(max_size=200))
def test_arbitrary_text_is_no_key_and_no_error(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize("text", ["", "_", "ut_", "ut__", "ut_live__", "Bearer", "ut_" + "a" * 500 + "_000000"])
def test_almost_keys_are_no_keys(text: str) -> None:
    assert not is_well_formed(text)


def test_the_hash_depends_on_the_key_and_on_the_secret_and_holds_neither() -> None:
    one, other = generate_api_key(), generate_api_key()
    digest = hash_api_key(one, secret="a" * 16)
    assert len(digest) == 32
    assert digest == hash_api_key(one, secret="a" * 16)
    assert digest != hash_api_key(other, secret="a" * 16)
    assert digest != hash_api_key(one, secret="b" * 16)
    assert one.encode() not in digest
