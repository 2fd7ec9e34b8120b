"""Turns text, whole or still being written, into the segments that a voice speaks.

from tts_service.app.text import TextStream

stream = TextStream.whole("Hello world.")       # or: TextStream(), then `put` bit by bit
for piece in stream.pieces(short_first=True): ...
"""

from .segmenter import MAX_PIECE_CHARS, Piece, Segmenter, TextEvent, TextStream, split

__all__ = ["MAX_PIECE_CHARS", "Piece", "Segmenter", "TextEvent", "TextStream", "split"]
