"""What holds for every test."""

import os

import torch

# Without a card Triton's kernels run in its interpreter; triton reads this when it is first imported, by whomever.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
