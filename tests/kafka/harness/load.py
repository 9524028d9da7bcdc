"""A steady producer in a thread, and the history of what it sent and heard."""

import itertools
import threading
import time

from confluent_kafka import KafkaError, KafkaException, Producer

from . import history, kafka, records, wait

# Failures that say that nothing was appended. Every other failure leaves the outcome open.
_CERTAIN = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Load:
    """`with Load(...) as load:` sends until the block ends; `load.sends()` is what happened.

    Retries as often as needed for `timeout_seconds`, with short back-offs: what is measured is the
    cluster, not the client's patience.
    """

    def __init__(self, bootstrap, topic, partitions=1, rate=200, name="p", idempotent=True, timeout_seconds=120, **config):
        self.topic, self.partitions, self.rate, self.name = topic, partitions, rate, name
        self._sends, self._lock, self._stopping = [], threading.Lock(), threading.Event()
        self._pending, self._trouble = 0, None
        settings = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": idempotent,
            "linger.ms": 0,
            "message.timeout.ms": int(timeout_seconds * 1000),
            "retry.backoff.ms": 50,
            # By default 1,000 ms (KIP-580): its fifth question for a new leader comes 1.5 s after the first,
            # so that an election of 0.7 s looks like one of 1.5 s.
            "retry.backoff.max.ms": 100,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.fast.interval.ms": 50,
            "log_level": 2,
        }
        self._producer = Producer(settings | config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stopping.set()
        self._thread.join(180 if kind is None else 1)
        assert kind or not self._thread.is_alive(), f"{self._pending} sends without an answer after 180 s"
        assert kind or self._trouble is None, f"the producer gave up: {self._trouble!r}"

    def sends(self):
        with self._lock:
            return list(self._sends)

    def acknowledged(self):
        return [send for send in self.sends() if send.outcome == history.OK]

    def wait_acknowledged(self, more, seconds=60):
        """Until so many sends that begin from here on are acknowledged; the first of them."""
        with self._lock:
            known, now = len(self._sends), time.monotonic()

        def fresh():
            with self._lock:
                heard = self._sends[known:]
            return [send for send in heard if send.outcome == history.OK and send.invoked >= now]

        def what():
            return f"{more} new acknowledgements, have {len(fresh())}; failures: {self.failures()[-3:]}"

        wait.until(what, lambda: self._trouble or len(fresh()) >= more, seconds, 0.02)
        assert self._trouble is None, f"the producer gave up: {self._trouble!r}"
        return min(fresh(), key=lambda send: send.ended)

    def longest_gap(self, partition, since):
        """Between two acknowledgements of a partition, in seconds."""
        ended = sorted(send.ended for send in self.acknowledged() if send.partition == partition and send.ended >= since)
        return max(after - before for before, after in itertools.pairwise(ended))

    def failures(self):
        return [send for send in self.sends() if send.outcome != history.OK]

    def _run(self):
        try:
            self._send_all()
        except (KafkaException, AssertionError) as error:
            self._trouble = error

    def _send_all(self):
        sequences = [0] * self.partitions
        start, sent = time.monotonic(), 0
        while not self._stopping.is_set():
            due = int((time.monotonic() - start) * self.rate)
            # A stalled partition must not become a burst of a minute's records later.
            while sent < due and self._pending < self.rate * 2:
                partition = sent % self.partitions
                self._send(partition, sequences[partition])
                sequences[partition] += 1
                sent += 1
            sent = max(sent, due - self.rate)
            self._producer.poll(0.005)
        self._producer.flush(150)

    def _send(self, partition, sequence):
        text = f"{sequence:09d} {self.name} {partition}"
        value, invoked = f"{text} {records.checksum(text)}", time.monotonic()

        def delivered(error, message):
            certain = error is not None and error.code() in _CERTAIN
            outcome = history.OK if error is None else history.FAIL if certain else history.UNKNOWN
            offset = message.offset() if error is None else -1
            send = history.Send(
                self.name, partition, sequence, value, outcome, offset, invoked, time.monotonic()
            )
            with self._lock:
                self._sends.append(send)
                self._pending -= 1

        with self._lock:
            self._pending += 1
        self._producer.produce(self.topic, value, partition=partition, on_delivery=delivered)


def read_back(bootstraps, topic, partitions, seconds=120):
    """The whole log as each DC shows it: `{dc: bootstrap}` → reads by place."""
    reads = []
    for dc, bootstrap in bootstraps.items():
        for partition in range(partitions):
            for offset, value in kafka.read(bootstrap, topic, partition, rack=dc, seconds=seconds):
                text = value.decode()
                records.number(text)
                reads.append(history.Read(dc, partition, offset, text))
    return reads


def check(load_sends, reads, places, idempotent=True):
    wrong = history.anomalies(load_sends, reads, idempotent, places)
    assert not wrong, f"{len(wrong)} anomalies:\n" + "\n".join(wrong[:20])
