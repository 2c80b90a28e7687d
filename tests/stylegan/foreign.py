"""Pickles in the shape of StyleGAN2-ADA's, made from networks of ours."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sem2ct.stylegan import nvlabs
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator

SHAPE = {"resolution": 16, "channel_base": 64, "channel_max": 8}


class EasyDict(dict):
    """A dictionary of another name."""


EasyDict.__module__ = "dnnlib.util"


def rebuilt(meta):
    raise AssertionError("the constructor of the file's networks is called")


rebuilt.__module__, rebuilt.__qualname__ = (
    "torch_utils.persistence",
    "_reconstruct_persistent_obj",
)


class Module:
    """A network as the reference pickles it: a call with one dictionary."""

    def __init__(self, name: str, source: str, **attributes: Any) -> None:
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": name}
        self.state = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
        self.state |= {"_init_args": (), "_init_kwargs": EasyDict(), **attributes}

    def __reduce__(self):
        return rebuilt, ({**self.meta, "state": self.state},)


def install(monkeypatch) -> None:
    """Makes the names of the reference importable for `pickle`, for one test."""
    for name, members in {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": rebuilt},
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


def tree(tensors: dict[str, torch.Tensor], source: str) -> Module:
    """Nested modules that hold these tensors under their dotted names."""
    root = Module("Network", source)
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        place = root
        for step in path:
            place = place.state["_modules"].setdefault(step, Module("Part", source))
        if "resample_filter" in name or last in ("w_avg", "noise_const"):
            place.state["_buffers"][last] = tensor.detach().clone()
        else:
            place.state["_parameters"][last] = nn.Parameter(tensor.detach().clone(), False)
    return root


def networks(channels: int = 1, **arguments: Any) -> tuple[Generator, Discriminator]:
    """Networks of ours with nothing left at 0."""
    torch.manual_seed(6)
    generator = Generator(z_dim=5, w_dim=6, mapping_layers=2, channels=channels, **SHAPE)
    discriminator = Discriminator(channels=channels, **SHAPE | arguments)
    with torch.no_grad():
        for network in (generator, discriminator):
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        generator.mapping.w_avg.normal_()
    return generator.eval(), discriminator.eval()


def content(generator: Generator, discriminator: Discriminator, source: str = "") -> dict[str, Any]:
    """What a snapshot of a training holds."""
    shared = {"c_dim": 0, "img_resolution": generator.resolution}
    shared |= {"img_channels": generator.config["channels"]}
    widths = {name: SHAPE[name] for name in ("channel_base", "channel_max")}
    made = tree(nvlabs.reference_names(generator), source)
    made.state["_init_kwargs"].update(
        shared, z_dim=5, w_dim=6, synthesis_kwargs=EasyDict(widths), mapping_kwargs=EasyDict()
    )
    opponent = tree(nvlabs.reference_names(discriminator), source)
    group = EasyDict(mbstd_group_size=discriminator.group)
    opponent.state["_init_kwargs"].update(shared, **widths, epilogue_kwargs=group)
    return {
        "training_set_kwargs": EasyDict(path="tiles.zip"),
        "augment_pipe": None,
        "G": made,
        "D": opponent,
        "G_ema": made,
    }


def write(path: Path, what: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(what, protocol=protocol))
    return path
