import pytest
import torch

from sem2ct.runtime import device
from sem2ct.runtime.refusal import Refusal


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_takes_the_gpu_where_there_is_one(gpus):
    gpus(0)
    assert device.choose("auto") == torch.device("cpu")
    gpus(2)
    assert device.choose("auto") == torch.device("cuda", 0)
    assert device.choose("cpu") == torch.device("cpu")


def test_each_process_takes_the_gpu_of_its_number(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.choose("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(Refusal, match="there are 2; set devices=2"):
        device.choose("cuda")


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(0)
    with pytest.raises(Refusal, match=r"device=cuda.*no GPU.*device=cpu"):
        device.choose("cuda")
    with pytest.raises(Refusal, match="device=tpu is not one of"):
        device.choose("tpu")


def test_bf16_is_used_where_it_is_asked_for():
    layer, rows = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with device.autocast("bf16", torch.device("cpu")):
        assert layer(rows).dtype == torch.bfloat16
    for precision in ("float32", "tf32"):
        with device.autocast(precision, torch.device("cpu")):
            assert layer(rows).dtype == torch.float32
    with pytest.raises(Refusal, match="precision=fp8"):
        device.autocast("fp8", torch.device("cpu"))


def test_mixed_is_float16_for_some_networks_on_a_gpu_and_bf16_for_all_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert device.autocast("mixed", gpu, mixed="float16") == ("cuda", torch.float16)
    assert device.autocast("mixed", gpu) == ("cuda", torch.bfloat16)
    assert device.autocast("bf16", gpu, mixed="float16") == ("cuda", torch.bfloat16)
    assert device.autocast("mixed", cpu, mixed="float16") == ("cpu", torch.bfloat16)


def test_tf32_is_what_separates_it_from_float32_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    for precision, allowed in (("tf32", True), ("float32", False)):
        device.autocast(precision, torch.device("cuda"))
        assert torch.backends.cudnn.allow_tf32 is allowed


def test_what_is_sent_arrives_unchanged():
    values = torch.arange(24.0).view(4, 6)[1::2, ::3]
    assert torch.equal(device.send(values, torch.device("cpu")), values)
