"""What is measured: three voters on this machine, as Isobar and as Apache Kafka."""

import base64
import contextlib
import os
import shutil
import uuid
from pathlib import Path

from harness import clients, kafka, topology, wait
from harness.cluster import Cluster
from harness.process import Process

JARS = clients.CLIENTS / "apache-kafka"


class System:
    """What both have: topics through an ordinary client."""

    def create(self, topic, partitions):
        kafka.create_topic(self.bootstrap, topic, partitions)

    def delete(self, topic):
        kafka.delete_topic(self.bootstrap, topic)

    def cool(self):
        """Takes the logs out of the page cache."""
        os.sync()
        for path in self.directory.rglob("*"):
            # A segment may be deleted meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    with path.open("rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Isobar(System):
    """One DC with three nodes: what both systems can do."""

    name = "Isobar"
    durability = "An ack is after fdatasync: acks=1 on the leader, acks=all on two of three."
    kills = 20

    def __init__(self, directory):
        self.directory = Path(directory)
        self.cluster = Cluster(self.directory, {"fra": 3})

    def start(self):
        self.cluster.start()
        self.bootstrap = self.cluster.bootstrap()
        return self

    def processes(self):
        return list(self.cluster.processes.values())

    def kill9(self, node):
        self.cluster.kill9(node)

    def start_again(self, node):
        self.cluster.start(node)

    def close(self):
        self.cluster.close()


class ApacheKafka(System):
    """Three combined brokers (KRaft) with the defaults of their kind, as `isobar start` has its own."""

    name = "Apache Kafka"
    durability = "An ack is after the page cache, never after a sync: acks=1 of the leader, acks=all of all in sync."
    # Ten seconds each, and as long again until it is back.
    kills = 3

    def __init__(self, directory):
        self.directory = Path(directory)
        self.nodes = topology.nodes({"fra": 3})
        self.started = {}

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
            clients.call([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", file])
            self.started[number] = Process([*java, "kafka.Kafka", file], home / "kafka.log")
        self.bootstrap = ",".join(node.kafka for node in self.nodes.values())
        wait.until(
            "three brokers",
            lambda: len(kafka.admin(self.bootstrap).list_topics(timeout=5).brokers) == 3,
            240,
            errors=(Exception,),
        )
        return self

    def processes(self):
        return list(self.started.values())

    def kill9(self, node):
        self.started[node].kill9()

    def start_again(self, node):
        dead = self.started[node]
        self.started[node] = Process(dead.args, dead.log_path)

    def close(self):
        for process in self.started.values():
            process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


def available():
    return [Isobar] + ([ApacheKafka] if JARS.is_dir() else [])
