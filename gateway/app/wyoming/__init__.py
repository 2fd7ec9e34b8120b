"""The Wyoming protocol, by which Home Assistant asks for speech and recognition.

It has a port of its own, off unless `GATEWAY_WYOMING_PORT` names one. The messages are those of the
package `wyoming`; requests go to the services behind like those of any other endpoint.
https://github.com/OHF-Voice/wyoming
"""
