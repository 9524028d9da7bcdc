"""A node's admin port over HTTP."""

import json
import re
import urllib.error
import urllib.request

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def status(address, path, seconds=5):
    """The HTTP status; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def refusal(address, path, seconds=5):
    """The JSON of an answer that is no success; None where it is one."""
    try:
        urllib.request.urlopen(f"http://{address}{path}", timeout=seconds).close()
    except urllib.error.HTTPError as error:
        return json.load(error)


def text(address, path, seconds=10):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=seconds) as answer:
        return answer.read().decode()


def samples(address, name, **labels):
    """`(labels, value)` of each sample of a metric whose labels contain the given ones."""
    return samples_in(text(address, "/metrics"), name, **labels)


def samples_in(scrape, name, **labels):
    """The same, of what was scraped at one moment."""
    found = []
    for line in scrape.splitlines():
        match = _SAMPLE.match(line)
        if match and match["name"] == name:
            have = dict(_LABEL.findall(match["labels"] or ""))
            if all(have.get(key) == str(value) for key, value in labels.items()):
                found.append((have, float(match["value"])))
    return found
