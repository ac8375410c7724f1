"""The network of a trial: an architecture under the head that its loss needs, once or for each expert."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainable.architectures import ARCHITECTURES
from trainable.config import TrialConfig
from trainable.head import head_of
from trainable.model import start_as_identity
from trainable.preprocess import Preprocessing

# Adam moves each parameter by about the learning rate a step, and CORAL's biases have some units to go: held in tenths
# of themselves, they are there in some hundred steps instead of thousands.
BIAS_SCALE = 10.0


class Coral(nn.Module):
    """An architecture with one output f, to which V - 1 biases are added: (N, V - 1) logits of "the level is above k".

    That all share f is what makes CORAL's statements consistent (Cao et al. 2020, theorem 1).
    """

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__()
        self.network = network
        self.tenths = nn.Parameter(torch.zeros(levels - 1))
        self.start_at(torch.zeros(levels))

    def start_at(self, counts: Tensor) -> None:
        """Sets the biases so that a score of 0 tells the levels' shares, given the (V,) training images of each.

        Biases too close together make one of the two outer levels the most probable one, whatever the score.
        """
        shares = (counts.double() + 0.5) / (counts + 0.5).sum()  # none is 0, so that the biases fall
        above = shares.flip(0).cumsum(0).flip(0)[1:]
        with torch.no_grad():
            self.tenths.copy_(above.logit() / BIAS_SCALE)

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images and (N, K) one-hots to (N, V - 1)."""
        score: Tensor = self.network(images, metadata)
        return score.float() + BIAS_SCALE * self.tenths


class Experts(nn.Module):
    """A network of its own for each value of an input column.

    Args:
        networks: one for each value.
        group: the value's one-hot columns in the metadata.
    """

    def __init__(self, networks: Sequence[nn.Module], group: slice) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.group = group

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images and (N, K) one-hots to (N, O), each row from the expert for its value. A row
        with a value that training never saw gets the mean of all experts."""
        own = metadata[:, self.group]
        unknown = own.sum(dim=1) == 0
        shares = torch.where(unknown[:, None], 1 / len(self.networks), own)
        parts = []
        for expert, network in enumerate(self.networks):
            rows = shares[:, expert].nonzero().flatten()
            if len(rows):
                outputs = network(images[rows], metadata[rows]).float() * shares[rows, expert, None]
                parts.append(outputs.new_zeros(len(images), outputs.shape[1]).index_copy(0, rows, outputs))
        return torch.stack(parts).sum(dim=0)


def build_network(config: TrialConfig, preprocessing: Preprocessing) -> nn.Module:
    """A configuration's network with fresh weights: (N, 3, S, S) images and (N, K) one-hots to (N, O) outputs.

    Raises:
        ConfigError: where the blocks do not fit the image.
    """
    head = head_of(config, preprocessing)
    architecture = ARCHITECTURES[config.architecture]

    def one() -> nn.Module:
        if head.coral:
            return Coral(architecture.build(config, preprocessing.metadata_width, 1), head.levels)
        return architecture.build(config, preprocessing.metadata_width, head.outputs)

    network: nn.Module
    if config.experts is None:
        network = one()
    else:
        group = preprocessing.group(config.experts)
        network = Experts([one() for _ in preprocessing.vocabulary[config.experts]], group)
    if config.init == "identity":
        start_as_identity(network)
    return network
