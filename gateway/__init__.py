"""The gateway relays to the services behind it, and joins them."""
