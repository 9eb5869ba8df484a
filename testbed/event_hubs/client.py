"""Microsoft's own client, for tests: `client.py read|send <connection string> <hub> …`.

read <count> <recovery id>   prints a JSON line for each of so many events of a recovery, or of any
                             if the id is empty, from the beginning of every partition
send <key> …                 sends a batch of one event for each partition key
"""

import json
import os
import sys
import threading

import loopback  # noqa: F401, before the client is used
from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def read(connection, hub, count, recovery):
    consumer = EventHubConsumerClient.from_connection_string(
        connection, consumer_group="$Default", eventhub_name=hub
    )
    lock, seen = threading.Lock(), [0]

    def on_event(partition, event):
        properties = {text(k): text(v) for k, v in (event.properties or {}).items()}
        if recovery and properties.get("recovery_id") != recovery:
            return
        line = {
            "partition": int(partition.partition_id),
            "sequence_number": event.sequence_number,
            "offset": event.offset,
            "enqueued": event.enqueued_time.timestamp(),
            "partition_key": text(event.partition_key),
            "message_id": event.message_id,
            "content_type": event.content_type,
            "properties": properties,
            "body": event.body_as_str(),
        }
        with lock:
            print(json.dumps(line), flush=True)
            seen[0] += 1
            if seen[0] >= count:
                threading.Thread(target=consumer.close).start()

    def give_up():
        print(f"only {seen[0]} of {count} came", file=sys.stderr)
        os._exit(1)

    timer = threading.Timer(60, give_up)
    timer.daemon = True
    timer.start()
    with consumer:
        consumer.receive(on_event=on_event, starting_position="-1")
    timer.cancel()


def send(connection, hub, keys):
    producer = EventHubProducerClient.from_connection_string(connection, eventhub_name=hub)
    with producer:
        for key in keys:
            batch = producer.create_batch(partition_key=key)
            batch.add(EventData(key))
            producer.send_batch(batch)


if __name__ == "__main__":
    command, connection, hub, *rest = sys.argv[1:]
    if command == "read":
        read(connection, hub, int(rest[0]), rest[1])
    else:
        send(connection, hub, rest)
