"""The services behind the gateway: which replica is asked, how, and what its failures mean."""
