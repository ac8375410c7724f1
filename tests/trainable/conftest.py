"""What holds for every test of trainable/."""

import torch

# Networks this small gain nothing from threads, which only wait for one another on a busy machine.
torch.set_num_threads(1)
