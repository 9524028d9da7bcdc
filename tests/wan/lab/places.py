"""Who a cut is between: datacenters, nodes and clients, by the names that scenarios have for them."""


def clients_of(dc):
    return f"c-{dc}"


def pairs(dcs, ways):
    """`(source, target)` of everything that no packet passes between. `dcs` has the datacenter of each place; one
    without (`-`) is never cut off."""
    for a, b in ways:
        for source in _members(dcs, a, b):
            for target in _members(dcs, b, a):
                if source != target:
                    yield source, target


def _members(dcs, place, other):
    """A DC, an endpoint, or `*`: everything but the operator, and but a DC whose other end it is."""
    everything = [n for n, dc in dcs.items() if dc not in ("-", other)]
    return everything if place == "*" else [n for n, dc in dcs.items() if place in (dc, n)]
