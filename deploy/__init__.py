"""How the fleet is set up and run."""
