"""Who may see the figures, and for how long."""

import logging

import pytest

from serve_app.ops.guess_limit import GuessLimit
from serve_app.ops.login import COOKIE, LONG_CHARS, SESSION_S, Login, TooManyGuessesError
from tests.serve_app.ops.builders import Clock

NOW_S = 1_800_000_000.0
SHORT, LONG = "a short secret", "0123456789abcdef" * 2
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    """Of the login, and of its limit."""
    return Clock(NOW_S)


def make_login(token: str | None, clock: Clock, *, is_open: bool = False) -> Login:
    """Three wrong tokens from an address are looked at, and five in all."""
    limit = GuessLimit(max_wrong=3, max_wrong_in_all=5, window_s=60, clock=clock)
    return Login(token, is_open=is_open, guess_limit=limit, clock=clock)


def admits_cookie(login: Login, cookie: str) -> bool:
    """A browser's."""
    return login.admits({}, {COOKIE: cookie}, address=HERE)


def is_refused_unseen(login: Login, token: str, address: str = HERE) -> bool:
    """Whether a wrong token is answered with a time to wait."""
    try:
        return login.takes(token, address=address)
    except TooManyGuessesError:
        return True


def test_a_session_ends(clock: Clock) -> None:
    """After half a day; no second longer."""
    login = make_login(SHORT, clock)
    cookie = login.new_cookie()
    for passed_s, is_admitted in ((0, True), (SESSION_S - 1, True), (SESSION_S, False), (10 * SESSION_S, False)):
        clock.now_s = NOW_S + passed_s
        assert admits_cookie(login, cookie) is is_admitted


def test_a_session_ends_with_its_token(clock: Clock) -> None:
    """And not with the process."""
    cookie = make_login(SHORT, clock).new_cookie()
    assert admits_cookie(make_login(SHORT, clock), cookie)
    assert not admits_cookie(make_login("another", clock), cookie)


def test_a_session_of_a_clock_that_was_ahead_is_none(clock: Clock) -> None:
    """Or it would last for as long as that was."""
    login = make_login(SHORT, clock)
    clock.now_s += 1e9
    cookie = login.new_cookie()
    clock.now_s -= 1e9
    assert not admits_cookie(login, cookie)


def test_nobody_signs_a_session_but_us(clock: Clock) -> None:
    """Not even for a time that passes for one."""
    login = make_login(SHORT, clock)
    until_s, signature = login.new_cookie().split(".")
    later_s = str(int(until_s) - 1)
    for forged in (
        "",
        ".",
        signature,
        f"{until_s}.",
        f".{signature}",
        f"{later_s}.{signature}",
        f"{until_s}.{signature}0",
        f" {until_s}.{signature}",
        f"{until_s}.{signature.upper()}",
        "\ud800.\ud800",
        "9" * 10_000 + f".{signature}",
    ):
        assert not admits_cookie(login, forged), forged


@pytest.mark.parametrize("token", [SHORT, LONG])
def test_wrong_tokens_are_limited(token: str, clock: Clock) -> None:
    """From one address, then in all, until the window has passed."""
    login = make_login(token, clock)
    assert [is_refused_unseen(login, "wrong") for _ in range(4)] == [False, False, False, True]
    assert [is_refused_unseen(login, "wrong", THERE) for _ in range(3)] == [False, False, True]
    assert is_refused_unseen(login, "wrong", "192.0.2.3")
    clock.now_s += 60
    assert not is_refused_unseen(login, "wrong")


@pytest.mark.parametrize(("token", "is_taken"), [(SHORT, False), (LONG, True)])
def test_the_right_token_is_not_locked_out_if_it_cannot_be_guessed(
    token: str, is_taken: bool, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may try as often as he likes never finds a long one. For a short one, it would pay; so it is not taken,
    and operators are told that others can lock them out.
    """
    with caplog.at_level(logging.WARNING):
        login = make_login(token, clock)
    assert bool(caplog.records) is not is_taken
    assert token not in caplog.text
    for _ in range(3):
        assert not login.takes("wrong", address=HERE)
    if is_taken:
        assert login.takes(token, address=HERE)
        assert login.admits({"authorization": f"Bearer {token}"}, {}, address=HERE)
    else:
        with pytest.raises(TooManyGuessesError, match="too many wrong tokens: try again in 60 s"):
            login.takes(token, address=HERE)
        assert login.takes(token, address=THERE)


@pytest.mark.parametrize("token", [SHORT, LONG])
def test_who_is_logged_in_stays_so(token: str, clock: Clock) -> None:
    """However many others guess, from wherever; and a wrong cookie is no guess."""
    login = make_login(token, clock)
    cookie = login.new_cookie()
    for _ in range(100):
        assert not admits_cookie(login, f"{cookie}0")
    for number in range(5):
        assert not login.takes("wrong", address=str(number))
    assert is_refused_unseen(login, "wrong")
    assert admits_cookie(login, cookie)


def test_right_tokens_are_not_counted(clock: Clock) -> None:
    """Prometheus sends one every few seconds; and who sends none does not guess."""
    login = make_login(SHORT, clock)
    for _ in range(100):
        assert login.admits({"authorization": f"Bearer {SHORT}"}, {}, address=HERE)
        assert not login.admits({}, {}, address=HERE)
    assert not is_refused_unseen(login, "wrong")


def test_without_a_token_it_is_closed_unless_told_otherwise(clock: Clock) -> None:
    """It says what to do. A token is wanted where there is one, whatever the setting."""
    closed, opened = make_login(None, clock), make_login(None, clock, is_open=True)
    assert "WARMROUTE_OPS_TOKEN" in str(closed.fault)
    assert "ops.open: true" in str(closed.fault)
    assert opened.fault is None
    for login, is_admitted in ((closed, False), (opened, True), (make_login(SHORT, clock, is_open=True), False)):
        assert login.admits({}, {}, address=HERE) is is_admitted
        assert login.takes("", address=HERE) is is_admitted
    assert not admits_cookie(closed, closed.new_cookie())


def test_an_empty_token_is_a_mistake(clock: Clock) -> None:
    """Which must not open what shall be closed."""
    with pytest.raises(ValueError, match="WARMROUTE_OPS_TOKEN is empty: give it a token, or do not set it"):
        make_login("", clock, is_open=True)


def test_the_documented_token_is_a_long_one() -> None:
    """`openssl rand -hex 24`."""
    assert len(bytes(24).hex()) >= LONG_CHARS
