"""This package sets the fleet up and runs it on one machine, without containers."""

from deploy.local.fleet import DEFAULT_PORTS, ROOT, SERVICES, FleetError, LocalFleet, free_ports

__all__ = ["DEFAULT_PORTS", "ROOT", "SERVICES", "FleetError", "LocalFleet", "free_ports"]
