"""The four ONNX graphs of a voice, written node by node from a checkpoint's arrays.

Written, not traced: so the graphs carry what tracing cannot know (convolution state across chunks,
rows of several speakers in one decoder step, dropout masks from outside), need no torch, and can be
made at test time from small random arrays.
"""
