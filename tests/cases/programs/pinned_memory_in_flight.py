# requires: gpu
"""A pinned buffer of an interpreter is let go of while a copy from it waits on the host's stream."""

import torch

import multipy_actors as multipy

torch.zeros(1, device="cuda")


@multipy.remote
class Loader:
    def fill(self, number):
        return torch.empty(4 << 20, dtype=torch.float32, pin_memory=True).fill_(number)


wrong = 0
with multipy.Pool(1) as pool:
    loader = Loader.options(pool=pool).remote()
    for number in range(60):
        buffer = loader.fill.submit(float(number)).result()
        torch.cuda._sleep(80_000_000)
        copy = buffer.to("cuda", non_blocking=True)
        del buffer
        for _ in range(3):
            loader.fill.submit(1000.0 + number).result()
        torch.cuda.synchronize()
        wrong += float(copy.min()) != number or float(copy.max()) != number
raise SystemExit(f"{wrong} of 60 copies spoilt" if wrong else 0)
