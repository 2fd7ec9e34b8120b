"""The one door: relays to the services behind it, and joins them."""
