"""Real clients of one datacenter, as a process of their own inside its namespace.

    python -m lab.load DC BOOTSTRAP HISTORY RATE TOPIC:PARTITIONS…

An idempotent producer (acks=all), a reader of every partition with `client.rack`, and a member of a group that
commits. What each did and heard goes to HISTORY, one JSON line an operation, on the machine's monotonic clock.
SIGTERM stops the sends; the process ends when every send has its answer.
"""

import json
import signal
import sys
import threading
import time
import zlib

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

GROUP = "wan-group"
# A send may wait out every fault of a scenario: what has no answer after that is open.
SEND_SECONDS = 180
# Sends that one client keeps open, so that a fault does not become a burst.
OPEN_MAX = 400
COMMIT_SECONDS = 1.0


class History:
    def __init__(self, path):
        self._file, self._lock = open(path, "a", buffering=1), threading.Lock()

    def add(self, op, **fields):
        line = json.dumps({"op": op, "t": time.monotonic(), **fields})
        with self._lock:
            self._file.write(line + "\n")


class Client:
    def __init__(self, dc, bootstrap, history, rate, topics):
        self.dc, self.bootstrap, self.history, self.rate, self.topics = dc, bootstrap, history, rate, topics
        self.places = [(topic, p) for topic, partitions in topics.items() for p in range(partitions)]
        self.stopping, self.ended = threading.Event(), threading.Event()
        self.open, self.fatal = 0, False

    def base(self, **config):
        return {
            "bootstrap.servers": self.bootstrap,
            "client.rack": self.dc,
            "log_level": 0,
            "socket.timeout.ms": 10_000,
            "reconnect.backoff.max.ms": 500,
        } | config

    def send(self):
        """One producer until a fatal error; then the next, with a name and sequences of its own."""
        instance = 0
        while not self.stopping.is_set():
            instance += 1
            self.fatal = False
            self._send_as(f"{self.dc}.{instance}")

    def _send_as(self, name):
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": SEND_SECONDS * 1000,
            "retry.backoff.ms": 50,
            "retry.backoff.max.ms": 200,
            "error_cb": self._error,
        }
        producer = Producer(self.base(**settings))
        sequences, sent, start = dict.fromkeys(self.places, 0), 0, time.monotonic()
        while not (self.stopping.is_set() or self.fatal):
            due = int((time.monotonic() - start) * self.rate)
            while sent < due and self.open < OPEN_MAX and not self.fatal:
                place = self.places[sent % len(self.places)]
                self._send_one(producer, name, *place, sequences[place])
                sequences[place] += 1
                sent += 1
            sent = max(sent, due - int(self.rate))
            producer.poll(0.02)
        if self.fatal:
            producer.purge()
        producer.flush(SEND_SECONDS + 10)

    def _error(self, error):
        if error.fatal():
            self.fatal = True
            self.history.add("fatal", dc=self.dc, error=str(error))

    def _send_one(self, producer, name, topic, partition, sequence):
        text = f"{name} {topic} {partition} {sequence}"
        value = f"{text} {zlib.crc32(text.encode()):08x}"
        invoked = time.monotonic()

        def delivered(error, message):
            self.open -= 1
            outcome = {"offset": message.offset()} if error is None else {"error": str(error.code()), "text": error.str()}
            self.history.add("send", outcome="ok" if error is None else "unknown", invoked=invoked, **place, **outcome)

        place = {"producer": name, "topic": topic, "p": partition, "seq": sequence, "value": value}
        self.history.add("invoke", **place)
        self.open += 1
        try:
            producer.produce(topic, value, partition=partition, on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            # Refused by the client itself, on the spot: it is certain that nothing has left.
            self.open -= 1
            self.fatal = self.fatal or not isinstance(error, BufferError)
            self.history.add("send", outcome="fail", invoked=invoked, error=str(error), **place)

    def tail(self):
        """Reads every partition from its first offset, at the nearest replica."""
        reader = Consumer(self.base(**{"group.id": f"unused-{self.dc}", "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 200}))
        reader.assign([TopicPartition(topic, partition, 0) for topic, partition in self.places])
        while not self.ended.is_set():
            self._log_reads(reader.consume(500, 0.2), "read")
        reader.close()

    def _log_reads(self, messages, op):
        for message in messages:
            if message.error() is None:
                value, epoch = message.value().decode(), message.leader_epoch()
                place = {"topic": message.topic(), "p": message.partition(), "offset": message.offset()}
                self.history.add(op, dc=self.dc, epoch=-1 if epoch is None else epoch, value=value, **place)

    def group(self):
        """A member that commits what it has consumed. What it finds committed is a read of what was written."""
        reader = Consumer(self.base(**{"group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 10_000}))

        def assigned(_, partitions):
            self._committed(reader, partitions)

        reader.subscribe(list(self.topics), on_assign=assigned)
        positions, last = {}, time.monotonic()
        while not self.ended.is_set():
            for message in reader.consume(200, 0.2):
                if message.error() is None:
                    positions[message.topic(), message.partition()] = message.offset() + 1
            if positions and time.monotonic() - last > COMMIT_SECONDS:
                self._commit(reader, positions)
                positions, last = {}, time.monotonic()
        reader.close()

    def _commit(self, reader, positions):
        invoked = time.monotonic()
        try:
            done = reader.commit(offsets=[TopicPartition(t, p, o) for (t, p), o in positions.items()], asynchronous=False)
            errors = {(tp.topic, tp.partition): tp.error for tp in done}
        except KafkaException as error:
            errors = dict.fromkeys(positions, error.args[0])
        for (topic, partition), offset in positions.items():
            error = errors.get((topic, partition))
            # Never certain: librdkafka sends a commit again by itself, so what is refused in the end, by its old
            # generation, may have been taken the first time.
            outcome = "ok" if error is None else "unknown"
            self.history.add("commit", dc=self.dc, topic=topic, p=partition, offset=offset, outcome=outcome, invoked=invoked)

    def _committed(self, reader, partitions):
        invoked = time.monotonic()
        try:
            found = reader.committed(partitions, timeout=10)
        except KafkaException:
            return  # nothing was read
        for tp in found:
            if tp.error is None:
                self.history.add("committed", dc=self.dc, topic=tp.topic, p=tp.partition, offset=max(tp.offset, 0), invoked=invoked)


def main(dc, bootstrap, path, rate, *topics):
    split = dict(topic.rsplit(":", 1) for topic in topics)
    client = Client(dc, bootstrap, History(path), float(rate), {t: int(n) for t, n in split.items()})
    signal.signal(signal.SIGTERM, lambda *_: client.stopping.set())
    others = [threading.Thread(target=run) for run in (client.tail, client.group)]
    for thread in others:
        thread.start()
    client.send()
    client.ended.set()
    for thread in others:
        thread.join()
    client.history.add("end", dc=dc, open=client.open)


if __name__ == "__main__":
    main(*sys.argv[1:])
