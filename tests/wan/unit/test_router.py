"""Which packets a cut takes."""

from lab.places import pairs

DCS = {f"n{n}": dc for n, dc in enumerate(("fra", "fra", "iad", "sin", "-"), 1)}


def cut(*ways):
    return set(pairs(DCS, ways))


def test_a_datacenter_that_is_isolated_is_whole_inside():
    both = cut(("fra", "*"), ("*", "fra"))
    assert ("n1", "n2") not in both and ("n2", "n1") not in both
    assert both == {(a, b) for a, b in both | {(b, a) for a, b in both}}
    assert {b for a, b in both if a == "n1"} == {"n3", "n4"}


def test_a_node_that_is_isolated_hears_nobody_and_the_operator_is_never_cut_off():
    both = cut(("n1", "*"), ("*", "n1"))
    assert {b for a, b in both if a == "n1"} == {"n2", "n3", "n4"}
    assert not any("n5" in pair for pair in cut(("*", "*")))


def test_a_cut_between_two_has_its_direction():
    assert cut(("fra", "iad")) == {("n1", "n3"), ("n2", "n3")}
