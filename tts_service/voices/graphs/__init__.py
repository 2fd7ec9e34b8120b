"""This package writes the four ONNX graphs of a voice, node by node, from a checkpoint's arrays.

They are written, not traced. So they hold what tracing cannot know (convolution state across
chunks, rows of several utterances in one decoder step, dropout masks from outside), need no torch,
and can be made in a test from small random arrays.
"""
