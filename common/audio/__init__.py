"""Audio as bytes and as samples: formats, PCM, G.711, resampling."""
