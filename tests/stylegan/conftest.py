"""The numbers of the reference implementation, where this machine has them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch


class Reference:
    """One file of reference numbers: tensors by name, the network's state, its config."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {name: file[name] for name in file.files}

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def json(self, name: str) -> dict:
        return json.loads(str(self.arrays[name]))

    @property
    def state(self) -> dict[str, np.ndarray]:
        names = [name for name in self.arrays if name.startswith("state/")]
        return {name.removeprefix("state/"): self.arrays[name] for name in names}


def parity_folder() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "parity"
    return Path(os.environ.get("SEM2CT_PARITY", beside))


def reference(name: str) -> Reference:
    path = parity_folder() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no reference numbers at {path} (SEM2CT_PARITY names their folder)")
    return Reference(path)


@pytest.fixture(scope="session")
def generator_reference() -> Reference:
    return reference("generator")


@pytest.fixture(scope="session")
def discriminator_reference() -> Reference:
    return reference("discriminator")


@pytest.fixture(scope="session")
def ops_reference() -> Reference:
    return reference("ops")
