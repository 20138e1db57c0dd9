"""An oracle in the host: its dtype, and batches in chunks that fit the free memory."""

import pytest
import torch
from understudy.oracles.base import Oracle, OracleError

DEVICE = torch.device("meta")


@pytest.mark.parametrize(
    ("fp16", "bf16", "dtype"),
    [
        (True, True, torch.float16),
        (False, True, torch.bfloat16),
        (False, False, torch.float32),
    ],
)
def test_half_precision_only_where_the_host_finds_it_fast(without_host, fp16, bf16, dtype):
    from understudy.nodes.oracle import _dtype

    without_host.get_torch_device.return_value = DEVICE
    without_host.should_use_fp16.return_value, without_host.should_use_bf16.return_value = fp16, bf16
    without_host.text_encoder_dtype.return_value = torch.float8_e4m3fn
    assert _dtype() == dtype
    without_host.should_use_fp16.assert_called_with(DEVICE)  # on a CPU it says no, but only if it is told the device


class Brightness(Oracle):
    family, unit, fingerprint = "brightness", "", "f"

    def __init__(self):
        self.network, self.seen = torch.nn.Linear(1, 1), []

    def prepare(self, images):
        return images

    def score_prepared(self, pixels, prompts):
        self.seen.append(len(pixels))
        return pixels.mean((1, 2, 3)) + torch.tensor([float(prompt) for prompt in prompts])


@pytest.mark.parametrize(("room_for", "chunks"), [(0.2, [1] * 8), (3, [3, 3, 2]), (100, [8])])
def test_a_batch_is_scored_in_chunks_that_fit(without_host, room_for, chunks):
    from understudy.nodes.oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    images = torch.rand(8, 3, 16, 16)
    per_image = 4 * 4 * images[0].numel() + HostedOracle.ACTIVATIONS
    without_host.get_free_memory.return_value = 2 * room_for * per_image  # half of it is left to the others
    prompts = [str(i) for i in range(8)]
    torch.testing.assert_close(oracle(images, prompts), images.mean((1, 2, 3)) + torch.arange(8))
    assert oracle.oracle.seen == chunks
    assert without_host.throw_exception_if_processing_interrupted.call_count == len(chunks)


def test_a_bad_image_is_named_by_its_place_in_all_of_them(without_host):
    from understudy.nodes.oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    without_host.get_free_memory.return_value = 0  # one image at a time
    images = torch.rand(3, 3, 16, 16)
    with pytest.raises(OracleError, match=r"no number \(NaN\) for image 12, prompt 'nan'"):
        oracle(images, ["1", "2", "nan"], 10)
    images[1] = torch.nan
    with pytest.raises(OracleError, match="image 11 has values from nan"):
        oracle(images, ["1", "2", "3"], 10)


def test_a_batch_without_images_is_refused(without_host):
    from understudy.nodes.oracle import HostedOracle, UnderstudyScoreImages

    empty, oracle = torch.zeros(0, 16, 16, 3), HostedOracle(Brightness())
    with pytest.raises(ValueError, match="a batch without images"):
        UnderstudyScoreImages.execute([oracle], [torch.zeros(1, 16, 16, 3), empty], ["a"])
    with pytest.raises(OracleError, match="there are no images"):
        oracle(empty.movedim(-1, 1), [])
    assert oracle.oracle.seen == []


def test_a_batch_of_a_thousand_goes_in_chunks_of_at_most_64(without_host):
    from understudy.nodes.oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    without_host.get_free_memory.return_value = 1e15
    assert len(oracle(torch.zeros(1000, 3, 2, 2), ["0"] * 1000)) == 1000
    assert max(oracle.oracle.seen) == 64
