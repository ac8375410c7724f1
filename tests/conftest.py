"""What holds for every test."""

import os

import torch

# Without a card Triton's kernels run in its interpreter; triton reads this when it is first imported, by whomever.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Ray would join, unasked, whatever Ray is on this machine where a test asks it for something before it has its own.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
