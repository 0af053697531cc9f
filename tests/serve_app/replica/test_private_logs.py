"""What clients say stays out of vLLM's warnings."""

import logging
from collections.abc import Iterator

import pytest

from serve_app.replica.private_logs import keep_out_clients_words

WORDS = "a client's own words"
ABOUT_REQUESTS = logging.getLogger("vllm.entrypoints.chat_utils")


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    """The plugin is loaded, perhaps several times, as in a process of vLLM."""
    make_record = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    keep_out_clients_words()
    keep_out_clients_words()
    yield
    logging.setLogRecordFactory(make_record)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, with vLLM's lines, which vLLM does not pass on where it is loaded."""
    logger = logging.getLogger("vllm")
    does_propagate, logger.propagate = logger.propagate, False
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "vllm")
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.propagate = does_propagate


def test_a_warning_says_what_vllm_says(log: pytest.LogCaptureFixture) -> None:
    """And numbers; anything else by its type."""
    ABOUT_REQUESTS.warning("Skipping part %s (type: %r) of %d", {"text": WORDS}, WORDS, 5)
    assert "Skipping part <dict> (type: '<str>') of 5" in log.text
    assert WORDS not in log.text


def test_an_exception_is_told_by_its_kind_and_place(log: pytest.LogCaptureFixture) -> None:
    """Its words may be anybody's, and those of what caused it."""
    try:
        try:
            {}[WORDS]
        except KeyError as error:
            raise ValueError(WORDS) from error
    except ValueError:
        ABOUT_REQUESTS.exception("It failed")
    assert WORDS not in log.text
    assert "It failed" in log.text
    assert log.text.rstrip().endswith("ValueError")
    assert "test_private_logs.py" in log.text


def test_what_is_asked_for_is_logged(log: pytest.LogCaptureFixture) -> None:
    """And what is about the engine itself."""
    ABOUT_REQUESTS.info("Received %s", WORDS)
    logging.getLogger("vllm.v1.engine.core").warning("Of the engine: %s", WORDS)
    logging.getLogger("vllm.entrypoints").warning("No arguments")
    assert log.text.count(WORDS) == 2
    assert "No arguments" in log.text


def test_a_record_may_be_made_of_nothing() -> None:
    """As the standard library does for one that another process has sent."""
    assert logging.makeLogRecord({"name": ABOUT_REQUESTS.name, "msg": "sent"}).getMessage() == "sent"
