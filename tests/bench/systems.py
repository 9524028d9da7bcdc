"""What is measured: three voters on this machine, as Isobar and as Apache Kafka."""

import base64
import uuid
from pathlib import Path

from harness import clients, kafka, topology, wait
from harness.cluster import Cluster
from harness.process import Process

JARS = clients.CLIENTS / "apache-kafka"


class Isobar:
    """One DC with three nodes: what both systems can do. Every ack is after fdatasync."""

    name = "Isobar"

    def __init__(self, directory):
        self.cluster = Cluster(directory, {"fra": 3})

    def start(self):
        self.cluster.start()
        self.bootstrap = self.cluster.bootstrap()
        return self

    def processes(self):
        return list(self.cluster.processes.values())

    def create(self, topic, partitions):
        kafka.create_topic(self.bootstrap, topic, partitions)

    def close(self):
        self.cluster.close()


class ApacheKafka:
    """Three combined brokers with its defaults: an ack is after the page cache of all in sync."""

    name = "Apache Kafka"

    def __init__(self, directory):
        self.directory = Path(directory)
        self.nodes = topology.nodes({"fra": 3})
        self.started = []

    def start(self):
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        voters = ",".join(f"{n}@{node.peer}" for n, node in self.nodes.items())
        for number, node in self.nodes.items():
            home = self.directory / f"kafka-{number}"
            home.mkdir(parents=True)
            settings = {
                "process.roles": "broker,controller",
                "node.id": number,
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://{node.kafka},CONTROLLER://{node.peer}",
                "controller.listener.names": "CONTROLLER",
                "log.dirs": home / "data",
                "default.replication.factor": 3,
                "offsets.topic.replication.factor": 3,
                "min.insync.replicas": 2,
            }
            file = home / "server.properties"
            file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            java = ["java", "-Xmx1g", "-cp", f"{JARS}/*"]
            format_ = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", file]
            clients.call(format_)
            self.started.append(Process([*java, "kafka.Kafka", file], home / "kafka.log"))
        self.bootstrap = ",".join(node.kafka for node in self.nodes.values())
        wait.until(
            "three brokers",
            lambda: len(kafka.admin(self.bootstrap).list_topics(timeout=5).brokers) == 3,
            120,
            errors=(Exception,),
        )
        return self

    def processes(self):
        return self.started

    def create(self, topic, partitions):
        kafka.create_topic(self.bootstrap, topic, partitions)

    def close(self):
        for process in self.started:
            process.kill9()


def available():
    return [Isobar] + ([ApacheKafka] if JARS.is_dir() else [])


def written_bytes(process):
    """What the process caused to be written to the device, pages of its page cache included."""
    for line in Path(f"/proc/{process.pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise KeyError("write_bytes")
