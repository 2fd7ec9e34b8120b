"""What a decoder step is made from: its options, and a graph whose state goes in and comes out."""

from __future__ import annotations

from dataclasses import dataclass

from .builder import GraphBuilder


@dataclass(frozen=True)
class DecoderOptions:
    """What of the decoder cannot be read off its arrays; names as in Coqui's config."""

    r: int
    """Frames per step that are used."""
    r_init: int
    """Frames per step that the projection makes; larger than `r` after gradual training."""
    frame_channels: int = 80
    attention_norm: str = "softmax"
    location_attn: bool = True
    attention_win: bool = False
    use_forward_attn: bool = False
    transition_agent: bool = False
    forward_attn_mask: bool = False
    prenet_type: str = "original"
    prenet_dropout: bool = False
    """Whether the prenet drops out while speaking (Coqui: `prenet_dropout_at_inference`)."""


class StepBuilder(GraphBuilder):
    """A graph of one step for any number of rows."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.states: dict[str, int | str] = {}
        """Each state's width; a string where it is as wide as the text."""

    def state(self, name: str, width: int | str, kind: str = "float32") -> str:
        """A state as it was after the step before."""
        self.states[name] = width
        return self.input(name, ["rows", width], kind)

    def keep(self, name: str, value: str, kind: str = "float32") -> None:
        """The state as it is after this step."""
        self.output(f"next_{name}", value, ["rows", self.states[name]], kind)
