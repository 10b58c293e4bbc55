"""The settings of networks."""

from typing import Annotated, Literal

import flax.linen as nn
import tyro

from purejaxrl_a3c.config import Count, Positive, configuration

TorsoName = Literal["mlp", "minatar", "nips", "nature", "impala"]


def _show_default(default: str) -> str:
    """The hint in the command line's help; tyro writes the default of such a field as ``['mlp']``."""
    return "(default: " + default.strip("[']") + ")"


# The command line accepts the names alone: a flax module can be given only in Python.
_Torso = Annotated[TorsoName | nn.Module, tyro.conf.arg(constructor=TorsoName, help_behavior_hint=_show_default)]


@configuration
class TransformerConfig:
    """Settings that only a transformer has, beside its width ``num_cells``."""

    memory_window: Count = 50
    """Earlier steps of the episode that each layer of a transformer remembers (50 in RLlib's attention nets, 512 in
    Parisotto et al. 2020). On-policy algorithms keep the memory after every step of a rollout: this number times
    num_transformer_layers times num_cells floats."""
    num_transformer_layers: Count = 1
    """Layers of a transformer, each of attention and a small mlp (1 in RLlib's attention nets, 12 in Parisotto et al.
    2020). Each layer adds memory_window to how far back the transformer sees."""
    num_attention_heads: Count = 4
    """Heads of a transformer's attention, which divide num_cells (4 in CleanRL's PPO with Transformer-XL)."""


@configuration
class BodyConfig:
    """Settings of the layers before the heads, which every network has: its torso and its core."""

    torso: _Torso = "mlp"
    """Layers that turn an observation into features: mlp, or for images minatar, nips (Mnih et al. 2013, 2016), nature
    (Mnih et al. 2015) or impala. In Python it may also be a flax module."""
    hidden_sizes: tuple[Count, ...] = (64, 64)
    """Widths of the fully connected layers at the end of the torso (two of 64 in Schulman et al. 2017). An mlp without
    any is a linear policy and value function."""
    activation: Literal["elu", "gelu", "relu", "silu", "tanh"] = "tanh"
    """Activation function of the torso's layers (tanh in Schulman et al. 2017)."""
    layer_norm: bool = False
    """Normalise the output of every fully connected layer before its activation (Ba et al. 2016)."""
    core: Literal["feed_forward", "lstm", "gru", "min_gru", "lru", "transformer"] = "feed_forward"
    """Layer between torso and heads that remembers earlier observations: feed_forward remembers nothing; lstm and gru
    are recurrent; min_gru and lru are linear recurrences, which learn from all steps of a rollout at once; transformer
    attends to the last steps of its memory."""
    num_cells: Count = 256
    """Number of cells of a recurrent core, or width of a transformer (256 in Mnih et al. 2016 and in Parisotto et al.
    2020)."""
    transformer: TransformerConfig = TransformerConfig()


@configuration
class ScaleConfig:
    """Settings of the distribution of continuous actions."""

    initial_scale: Positive = 1.0
    """Standard deviation of continuous actions at the start of training, where the bounds of an action are -1 and 1.
    For a squashed policy it is that before the tanh."""


@configuration
class Config:
    """Settings of an actor-critic's network: its bodies and its heads."""

    body: BodyConfig = BodyConfig()
    shared_torso: bool = False
    """Let the policy and the value function share one torso and one core (they do in Mnih et al. 2016)."""
    share_agents: bool = False
    """Give every agent of a cooperative environment, whose action is as many equal choices, the same policy on its own
    view: its row of the arrays that have a row for each agent, and the other arrays (Gupta et al. 2017; Yu et al.
    2022)."""
    squash_actions: bool = False
    """Draw bounded continuous actions from the tanh of a Gaussian (Haarnoja et al. 2018) instead of clipping those of a
    Gaussian."""
    state_dependent_scale: bool = False
    """Make the standard deviation of continuous actions an output of the network instead of a parameter."""
    scale: ScaleConfig = ScaleConfig()
