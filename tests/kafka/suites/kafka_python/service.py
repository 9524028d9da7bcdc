"""What kafka-python's own suite starts brokers with; its published source leaves this out. Ours runs already."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def stop(self):
        """Not started here, not stopped here."""


class SpawnedService:
    def __init__(self, *_):
        raise NotImplementedError("this suite runs against a broker that is there: KAFKA_URI names it")
