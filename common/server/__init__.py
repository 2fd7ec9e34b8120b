"""What every service is built from: the app, its lifecycle, admission, errors, sockets."""
