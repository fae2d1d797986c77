"""Logs are facts, never payloads: not even where an exception carries one."""

from shared.observability.logs import traceback_of

ROW = "DETAIL:  Failing row contains (1, my secret prompt).\nmore of it"


def test_a_traceback_names_the_error_its_cause_and_the_place_but_no_row() -> None:
    try:
        try:
            raise ValueError(f"violates check constraint\n{ROW}")
        except ValueError as cause:
            raise RuntimeError(f"could not store\n{ROW}") from cause
    except RuntimeError as error:
        text = traceback_of((type(error), error, error.__traceback__))
    assert "ValueError: violates check constraint" in text
    assert "RuntimeError: could not store" in text
    assert "test_logs.py" in text
    assert "secret" not in text
    assert "more of it" not in text
