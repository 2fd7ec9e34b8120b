"""Preparing a voice: from Coqui's release to what `tts_service.app.engines.tacotron` speaks with.

Runs once, in an environment of its own: torch and Coqui are needed to read and to check a
checkpoint, never to speak.
"""
