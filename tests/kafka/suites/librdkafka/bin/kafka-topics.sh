#!/usr/bin/env bash
# Kafka's own tool, from the jars that setup has fetched, where librdkafka's tests look for it.
exec java -Xmx256m -cp "$ISOBAR_CLIENTS/java/*" org.apache.kafka.tools.TopicCommand "$@"
