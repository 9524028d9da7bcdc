"""What of a scenario Toxiproxy is told."""

from lab.link import Shape
from lab.toxiproxy import DOWNSTREAM, UPSTREAM, streams, toxics


def test_a_cut_link_stops_the_clients_of_either_side_at_the_nodes_of_the_other():
    found = set(streams([("fra", "iad")]))
    assert found == {("fra", n, UPSTREAM) for n in (4, 5, 6)} | {("iad", n, DOWNSTREAM) for n in (1, 2, 3)}
    both = set(streams([("fra", "iad"), ("iad", "fra")]))
    assert found < both and len(both) == 12


def test_a_node_that_is_isolated_has_no_clients_and_a_datacenter_keeps_its_own():
    assert {place[:2] for place in streams([("n4", "*"), ("*", "n4")])} == {(dc, 4) for dc in ("fra", "iad", "sin")}
    isolated = set(streams([("iad", "*"), ("*", "iad")]))
    assert ("iad", 4, UPSTREAM) not in isolated and ("fra", 4, UPSTREAM) in isolated and ("iad", 1, UPSTREAM) in isolated


def test_a_shape_is_what_a_proxy_can_do_of_it():
    shape = Shape(delay=0.04, jitter=0.002, loss=0.5, duplicate=0.1, rate=8e6)
    told = {toxic["type"]: toxic["attributes"] for toxic in toxics(UPSTREAM, shape, is_cut=True)}
    assert told == {"latency": {"latency": 40, "jitter": 2}, "bandwidth": {"rate": 1000}, "timeout": {"timeout": 0}}
    assert toxics(DOWNSTREAM, Shape(loss=0.5), is_cut=False) == []
