"""The clients that are programs of their own: kcat, KafkaJS, franz-go and Kafka's tools."""

import contextlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

CLIENTS = Path(os.environ.get("ISOBAR_CLIENTS", "target/clients"))
HERE = Path(__file__).resolve().parent.parent


def call(args, lines=None, seconds=120, env=None, check=True):
    """Runs a client, and gives it each of the lines when it is there."""
    stdin = subprocess.DEVNULL if lines is None else _pipe(lines)
    try:
        done = subprocess.run(
            [str(arg) for arg in args],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **(env or {})},
        )
    finally:
        if lines is not None:
            os.close(stdin)
    if check:
        assert done.returncode == 0, f"{args[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done


def _pipe(lines):
    read, write = os.pipe()

    def run():
        # A client that has failed reads no more: how it ended tells.
        with contextlib.suppress(BrokenPipeError), os.fdopen(write, "w", buffering=1) as pipe:
            for line in lines:
                pipe.write(f"{line}\n")

    threading.Thread(target=run, daemon=True).start()
    return read


def kcat(*args, **kwargs):
    return call(["kcat", *args], **kwargs)


def kafkajs(*args, **kwargs):
    """Runs tests/kafka/node/client.js with the pinned KafkaJS."""
    env = {"NODE_PATH": str(CLIENTS / "node" / "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    return call(["node", HERE / "node" / "client.js", *args], env=env, **kwargs)


def has_go():
    return (CLIENTS / "go_client" / "client").exists()


def franz_go(*args, **kwargs):
    """Runs tests/kafka/go, built with the pinned franz-go."""
    return call([CLIENTS / "go_client" / "client", *args], **kwargs)


def has_java():
    return shutil.which("java") is not None and any((CLIENTS / "java").glob("kafka-tools-*.jar"))


def java(tool, *args, **kwargs):
    """One of Kafka's own tools: `java("TopicCommand", …)`."""
    main = f"org.apache.kafka.tools.{tool}"
    return call(["java", "-Xmx256m", "-cp", f"{CLIENTS}/java/*", main, *args], **kwargs)
