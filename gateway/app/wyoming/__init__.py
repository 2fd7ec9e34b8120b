"""The Wyoming protocol, by which Home Assistant asks for speech and recognition.

A port of its own, off unless `GATEWAY_WYOMING_PORT` names one. The messages are those of the
package `wyoming`; what they ask for is asked of the services behind as any other door asks.
https://github.com/OHF-Voice/wyoming
"""
