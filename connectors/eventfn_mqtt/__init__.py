"""MQTT: `type = "mqtt"` hands the messages of topics to a function, "mqtt:TOPIC" takes what functions leave behind.

Belongs here: the protocol itself, which is a few packets, and in which order messages are handed out and acknowledged.
The clients at hand acknowledge a message when it arrives, or (paho, manually) only at quality of service 1 and from a
thread that connects; here it is acknowledged when it is handled, at 1 and 2. Does not: reconnecting, batching, filters.
"""

from eventfn_mqtt.destination import MqttDestination
from eventfn_mqtt.trigger import MqttTrigger

__all__ = ["MqttDestination", "MqttTrigger"]
