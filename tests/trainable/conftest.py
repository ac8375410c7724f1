"""What holds for every test of trainable/."""

import os

import torch

# Networks this small gain nothing from threads, which only wait for one another on a busy machine.
torch.set_num_threads(1)
# Without a card Triton's kernels run in its interpreter; triton reads this when it is first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
