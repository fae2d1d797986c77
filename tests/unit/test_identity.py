"""Identity: no two (source, event id) pairs share a key, and equal bodies share a fingerprint."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.identity import event_key, fingerprint

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
# short alphabets find joins that collide ("a" + "bc" = "ab" + "c"), UUIDs the pairs that skip the digest
pairs = st.tuples(
    st.one_of(st.text("ab-:", max_size=4), texts, st.uuids().map(str)),
    st.one_of(st.text("ab-:", min_size=1, max_size=4), texts, st.uuids().map(str)),
)


@given(st.lists(pairs, unique=True, min_size=2, max_size=40))
def test_different_pairs_of_source_and_id_have_different_keys(sample: list[tuple[str, str]]) -> None:
    keys = {event_key(source, event_id)[0] for source, event_id in sample}
    assert len(keys) == len(sample)
    assert all(len(key) == 16 for key in keys)


@given(st.uuids())
def test_a_canonical_uuid_without_a_source_is_its_own_key(value: UUID) -> None:
    assert event_key("", str(value)) == (value.bytes, True)


@given(st.uuids(), texts.filter(bool))
def test_any_other_spelling_of_a_uuid_is_another_event(value: UUID, source: str) -> None:
    for other_source, event_id in ((source, str(value)), ("", value.hex), ("", f"{{{value}}}"), ("", f"{value}\n")):
        key, is_own = event_key(other_source, event_id)
        assert (key == value.bytes, is_own) == (False, False)
    upper = str(value).upper()
    assert upper == str(value) or event_key("", upper)[0] != value.bytes


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_fingerprints_fit_a_bigint_and_tell_bodies_apart(one: bytes, other: bytes) -> None:
    assert -(2**63) <= fingerprint(one) < 2**63
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
