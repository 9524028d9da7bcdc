"""The link's model, and the backend's choice."""

import pytest
from lab import backend, netns, toxiproxy
from lab.link import QUEUE_SECONDS, Link, Shape


def many(shape, count=20_000, length=1000, every=0.001):
    link = Link(shape, "seed")
    return link, [link.admit(i * every, length) for i in range(count)]


def test_delay_is_exact_and_nothing_is_lost():
    _, out = many(Shape(delay=0.04))
    assert all(times == [pytest.approx(i * 0.001 + 0.04)] for i, times in enumerate(out))


def test_loss_and_duplicates_are_the_share_that_was_asked_for():
    link, out = many(Shape(loss=0.02, duplicate=0.01))
    assert 300 < link.lost < 500 and sum(not times for times in out) == link.lost
    assert 140 < link.doubled < 260


def test_jitter_keeps_the_order():
    _, out = many(Shape(delay=0.01, jitter=0.01))
    times = [t for (t,) in out]
    assert times == sorted(times) and len(set(times)) > 100


def test_a_rate_is_kept_and_its_queue_has_an_end():
    link, out = many(Shape(rate=4e6))
    left = [t for times in out for t in times]
    assert len(left) * 8000 / left[-1] == pytest.approx(4e6, rel=0.02)
    assert link.dropped > 0 and max(times[0] - i * 0.001 for i, times in enumerate(out) if times) <= QUEUE_SECONDS + 0.003


def test_a_seed_repeats():
    assert many(Shape(loss=0.1, jitter=0.01))[1] == many(Shape(loss=0.1, jitter=0.01))[1]


def test_a_backend_that_is_not_there_is_an_error_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.delenv(toxiproxy.SERVER, raising=False)
    why_not = lambda: "the kernel has no netem"
    assert backend.choose("auto", why_not) == ("user", "the kernel has no netem")
    with pytest.raises(backend.Unavailable, match="no netem"):
        backend.choose("netem", why_not)
    with pytest.raises(backend.Unavailable, match=toxiproxy.SERVER):
        backend.choose("toxiproxy", why_not)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(netns.Refused, match="root"):
        backend.choose("auto", why_not)
