"""What the tests of the containers need on a machine that has no container engine."""
