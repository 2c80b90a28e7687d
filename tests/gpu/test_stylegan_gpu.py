"""What a GPU computes, against the CPU; and that every precision trains there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sem2ct.runtime.device import autocast
from sem2ct.stylegan import fused
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.penalty import gradient_penalty_of
from sem2ct.stylegan.trainer import StyleganTrainer

pytestmark = pytest.mark.gpu

SIDE = 64
SHAPE = {"resolution": SIDE, "channel_base": 4096, "channel_max": 128}
PRECISIONS = ("float32", "tf32", "bf16", "mixed")


@pytest.fixture(scope="module")
def gpu():
    return torch.device("cuda")


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    made = Generator(z_dim=32, w_dim=32, mapping_layers=2, **SHAPE)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "noise_strength" in name:
                parameter.fill_(0.1)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(1)
    return Discriminator(**SHAPE)


def rms(error, truth):
    return (error.double().square().mean() / truth.double().square().mean()).sqrt().item()


def latents():
    return torch.randn(4, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("precision", "bound"), [("float32", 1e-5), ("tf32", 5e-3), ("mixed", 5e-3), ("bf16", 3e-2)]
)
def test_the_generator_draws_what_it_draws_on_the_cpu(generator, gpu, precision, bound):
    expected = generator(latents())
    on_gpu = Generator(**generator.config).to(gpu)
    on_gpu.load_state_dict(generator.state_dict())
    with torch.no_grad(), autocast(precision, gpu, mixed="float16"):
        images = on_gpu(latents().to(gpu))
    assert images.dtype == torch.float32
    error = rms(images.cpu() - expected, expected)
    assert error < bound
    assert precision == "float32" or error > 1e-6, "the precision was not used"


@pytest.mark.parametrize(
    ("precision", "bound"), [("float32", 1e-4), ("tf32", 1e-2), ("bf16", 5e-2)]
)
def test_logits_penalty_and_their_gradients_are_those_of_the_cpu(
    discriminator, gpu, precision, bound
):
    images = torch.randn(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    results = []
    for device, arithmetic in ((torch.device("cpu"), "float32"), (gpu, precision)):
        network = Discriminator(**discriminator.config).to(device)
        network.load_state_dict(discriminator.state_dict())
        with autocast(arithmetic, device):
            penalty, logits = gradient_penalty_of(network, images.to(device))
        (penalty.mean() + logits.square().mean()).backward()
        results.append([penalty, logits, *(p.grad for p in network.parameters())])
    for truth, ours in zip(*results, strict=True):
        assert rms(ours.detach().cpu() - truth.detach(), truth.detach() + 1e-9) < bound


def test_the_kernels_serve_here(gpu):
    pytest.importorskip("triton")
    assert fused.serves(gpu)


@pytest.mark.parametrize("shape", [(2, 20, 7, 5), (3, 512, 4, 4), (2, 32, 129, 64)])
@pytest.mark.parametrize("parts", ["bias", "bias noise", "bias factor", "bias factor noise"])
def test_the_kernels_have_the_values_and_gradients_of_the_plain_formula(gpu, shape, parts):
    pytest.importorskip("triton")
    count, channels, height, width = shape
    stream = torch.Generator().manual_seed(4)
    shapes = {"factor": (count, channels), "noise": (count, 1, height, width)}
    shapes = {name: shapes[name] for name in parts.split()[1:]}
    shapes = {"images": shape, "bias": (channels,), **shapes}
    values = {name: torch.randn(size, generator=stream) for name, size in shapes.items()}
    results = []
    for function in (fused.activate_plain, fused.activate_fused):
        leaves = {name: value.to(gpu).requires_grad_() for name, value in values.items()}
        out = function(**leaves, clamp=1.5)
        first = torch.autograd.grad(out.sin().sum(), leaves.values(), retain_graph=True)
        slopes = torch.autograd.grad(
            function(**leaves, clamp=1.5).square().sum(), leaves.values(), create_graph=True
        )
        size = sum(slope.square().sum() for slope in slopes)
        second = torch.autograd.grad(size, leaves.values())
        results.append([out.detach(), *first, *second])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_kernels_round_once(gpu, kind):
    pytest.importorskip("triton")
    images = torch.randn(2, 16, 8, 8).to(gpu, kind)
    bias, factor = torch.randn(16).to(gpu), torch.rand(2, 16).to(gpu)
    exact = fused.activate_plain(images.double(), bias.double(), factor=factor.double())
    ours = fused.activate_fused(images, bias, factor=factor)
    assert ours.dtype == kind
    torch.testing.assert_close(ours, exact.to(kind), rtol=2**-7, atol=1e-6)


def trainer(gpu, precision):
    return StyleganTrainer(
        **SHAPE,
        z_dim=32,
        w_dim=32,
        mapping_layers=2,
        batch_size=8,
        batch_per_device=4,
        learning_rate=0.002,
        ema_half_life_images=100,
        ema_ramp=0.05,
        r1_gamma=1.0,
        r1_interval=2,
        path_length_weight=2.0,
        path_length_interval=2,
        style_mixing=0.9,
        augment="bgc",
        augment_target=0.6,
        augment_ramp_images=50,
        precision=precision,
        seed=3,
        device=gpu,
    )


def train(model, steps):
    images = torch.rand(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return [model.step({"sem": images}, 8 * step) for step in steps]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_stays_finite_in_every_precision(gpu, precision):
    model = trainer(gpu, precision)
    assert all(value.isfinite() for row in train(model, range(6)) for value in row.values())
    weights = [*model.generator.parameters(), *model.discriminator.parameters()]
    assert all(weight.isfinite().all() and weight.dtype == torch.float32 for weight in weights)


def test_a_step_never_waits_for_the_gpu(gpu):
    model = trainer(gpu, "mixed")
    train(model, range(4))  # p is looked at after four steps, so not in the next three
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(model, range(4, 7))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_bench_runs_in_its_small_form(tmp_path):
    script = Path(__file__).resolve().parents[2] / "scripts/bench/stylegan.py"
    size = "--resolution 32 --batch 4 --channel-base 512 --channel-max 32 --repeats 1 --z-dim 32"
    command = [sys.executable, str(script), "--device", "cuda", "--precision", "mixed"]
    done = subprocess.run(
        [*command, *size.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Dreg" in done.stdout
    row = json.loads((tmp_path / "outputs/bench.jsonl").read_text())
    assert row["ours"]["images_per_second"] > 0
