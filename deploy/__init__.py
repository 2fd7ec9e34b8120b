"""This folder holds what the fleet is deployed with."""
