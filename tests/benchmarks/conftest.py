"""What holds for every test of benchmarks/."""

import torch

# Networks this small gain nothing from threads, which only wait for one another on a busy machine.
torch.set_num_threads(1)
