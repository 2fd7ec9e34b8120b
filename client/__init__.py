"""Programs that speak to the fleet, each usable as a module too. Imports no service."""
