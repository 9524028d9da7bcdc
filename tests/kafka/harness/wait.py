"""Waiting for events. Nothing else in this suite sleeps."""

import time


class Late(AssertionError):
    """What was waited for did not happen in time."""


def until(what, condition, seconds=30.0, every=0.05, errors=()):
    """Polls until `condition` returns something true, and returns that.

    `what` completes the sentence "not within N s: …"; a string, or a function that says what stands
    there instead. Exceptions listed in `errors` count as "not yet".
    """
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = None
        except errors as error:
            last = error
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise Late(f"not within {seconds:g} s: {text}" + (f" ({last!r})" if last else ""))
        time.sleep(every)  # tidy: the one poll interval of the suite


def for_seconds(seconds, check=None, every=0.2):
    """Lets time pass where time itself is the subject (load, a cut, idleness), checking as it goes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check:
            check()
        time.sleep(min(every, max(0.0, deadline - time.monotonic())))  # tidy: time is the subject
