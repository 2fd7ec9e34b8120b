"""This package turns a release of Coqui into a voice for `tts_service.app.engines.tacotron`.

It runs once, in an environment of its own: torch and Coqui are needed to read and to check a
checkpoint, never to speak.
"""
