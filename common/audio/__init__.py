"""Holds what is known of audio as bytes and as samples: formats, encodings, resampling."""
