"""An oracle in the host: its dtype, and batches in chunks that fit the free memory."""

from types import SimpleNamespace

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
    from understudy.nodes.load_oracle import oracle_dtype

    without_host.get_torch_device.return_value = DEVICE
    without_host.should_use_fp16.return_value, without_host.should_use_bf16.return_value = fp16, bf16
    without_host.text_encoder_dtype.return_value = torch.float8_e4m3fn
    assert oracle_dtype() == dtype
    without_host.should_use_fp16.assert_called_with(DEVICE)  # on a CPU it says no, but only if it is told the device


class Brightness(Oracle):
    family, unit, fingerprint, reads_prompts = "brightness", "", "f", True
    cpu_numbers = 2**24  # so that the chunks seen are those of the node

    def __init__(self):
        self.network, self.seen = torch.nn.Linear(1, 1), []

    def prepare(self, images):
        return images

    def score_prepared(self, pixels, prompts):
        self.seen.append(len(pixels))
        return pixels.mean((1, 2, 3)) + torch.tensor([float(prompt) for prompt in prompts])


@pytest.mark.parametrize(("room_for", "chunks"), [(0.2, [1] * 8), (3, [3, 3, 2]), (100, [8])])
def test_a_batch_is_scored_in_chunks_that_fit(without_host, room_for, chunks):
    from understudy.nodes.hosted_oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    images = torch.rand(8, 3, 16, 16)
    per_image = 4 * 4 * images[0].numel() + HostedOracle.ACTIVATIONS
    without_host.get_free_memory.return_value = 2 * room_for * per_image  # half of it is left to the others
    prompts = [str(i) for i in range(8)]
    torch.testing.assert_close(oracle(images, prompts), images.mean((1, 2, 3)) + torch.arange(8))
    assert oracle.oracle.seen == chunks
    assert without_host.throw_exception_if_processing_interrupted.call_count == len(chunks)


def test_a_bad_image_is_named_by_its_place_in_all_of_them(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    without_host.get_free_memory.return_value = 0  # one image at a time
    images = torch.rand(3, 3, 16, 16)
    with pytest.raises(OracleError, match=r"no number \(NaN\) for image 13, prompt 'nan'"):
        oracle(images, ["1", "2", "nan"], [10, 11, 12])
    images[1] = torch.nan
    with pytest.raises(OracleError, match="image 12 has values from nan"):
        oracle(images, ["1", "2", "3"], [10, 11, 12])


def test_a_score_that_is_no_number_says_what_the_host_has_for_it(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    without_host.get_free_memory.return_value = 1e9
    for dtype, advised in ((torch.float32, False), (torch.float16, True)):
        oracle.oracle.network.to(dtype)
        for value, told in (("nan", r"no number \(NaN\)"), ("inf", "inf"), ("-inf", "-inf")):
            with pytest.raises(OracleError, match=f"brightness gave {told} for image 7, prompt '{value}'") as error:
                oracle(torch.rand(2, 3, 16, 16), ["1", value], [5, 6])
            assert ("--force-fp32" in str(error.value)) == advised


def test_the_bar_moves_with_each_chunk_of_each_oracle(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle
    from understudy.oracles.calibration import Calibration
    from understudy.oracles.combine import CombinedOracle, Part

    oracle, seen = HostedOracle(Brightness()), []
    without_host.get_free_memory.return_value = 1e15
    oracle(torch.zeros(150, 3, 2, 2), ["0"] * 150, None, seen.append)
    assert seen == [64, 64, 22] and oracle.passes == 1
    table = Calibration("t", {}, {}, "f", "", table=range(101), count=100)
    parts = [Part(oracle, table), Part(CombinedOracle([Part(oracle, table), Part(oracle, table)]), None)]
    both = CombinedOracle(parts)
    seen.clear()
    both(torch.zeros(70, 3, 2, 2), ["0"] * 70, None, seen.append)
    assert seen == [64, 6] * 3 and both.passes == 3


def test_score_images_shows_how_far_it_is_and_numbers_all_images(without_host, monkeypatch):
    import comfy.utils
    from understudy.nodes import score_images as module
    from understudy.nodes.hosted_oracle import HostedOracle

    monkeypatch.setattr(module, "settings_of_graph", lambda *_: {})
    node = module.UnderstudyScoreImages
    monkeypatch.setattr(node, "hidden", SimpleNamespace(unique_id="1"), raising=False)
    bar = comfy.utils.ProgressBar
    without_host.get_free_memory.return_value = 1e15
    oracle = HostedOracle(Brightness())
    images = [torch.rand(70, 2, 2, 3), torch.rand(2, 2, 2, 1)]
    scores, values = node.execute([oracle], images, ["0"])
    assert values == pytest.approx([image.mean().item() for batch in images for image in batch], abs=1e-6)
    assert [len(each.values) for each in scores] == [70, 2]
    bar.assert_called_once_with(72)
    assert [call.args[0] for call in bar.return_value.update.call_args_list] == [64, 6, 2]
    images[1][1] = 255.0
    with pytest.raises(ValueError, match="image 72 has values from 255 to 255"):
        node.execute([oracle], images, ["0"])


def test_keep_better_names_an_image_by_its_place_among_all(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.oracles.scores import Scores

    without_host.get_free_memory.return_value = 1e15
    before = [torch.rand(3, 2, 2, 3), torch.rand(4, 2, 2, 3)]
    scores = [Scores((0.0,) * len(batch), ("",) * len(batch), "f", ("0",) * len(batch)) for batch in before]

    def keep(after, prompts):
        return UnderstudyKeepBetter.execute(before, after, scores, [HostedOracle(Brightness())], prompts)

    after = [batch.clone() for batch in before]
    after[1][1], after[1][3] = 0.25, 0.75
    images, kept = keep(after, ["0"])
    assert torch.equal(images[1][3], after[1][3])
    assert [each.decisions for each in kept] == [("kept",) * 3, ("kept", "redone", "kept", "redone")]
    with pytest.raises(OracleError, match=r"no number \(NaN\) for image 7, prompt 'nan'"):
        keep(after, ["0"] * 6 + ["nan"])
    after[1][3] = torch.nan
    with pytest.raises(ValueError, match="image 7 has values from nan"):
        keep(after, ["0"])


def test_keep_better_finds_an_image_in_other_batches(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.oracles.scores import Scores

    without_host.get_free_memory.return_value = 1e15
    before, oracle = [torch.full((3, 2, 2, 3), 0.5), torch.full((1, 4, 2, 3), 0.5)], HostedOracle(Brightness())
    scores = [Scores((0.5,) * 4, ("",) * 4, oracle.fingerprint, ("0",) * 4)]
    after = [image.clone()[None] for batch in before for image in batch]  # as Rebatch Images leaves them
    after[1] += 0.25
    after[3] -= 0.25
    images, (kept,) = UnderstudyKeepBetter.execute(before, after, scores, [oracle], ["0"])
    assert kept.decisions == ("kept", "redone", "kept", "reverted")
    assert [batch.shape for batch in images] == [batch.shape for batch in before]
    assert torch.equal(images[0][1], after[1][0]) and torch.equal(images[0][0], before[0][0])
    with pytest.raises(ValueError, match=r"image 4 of images_before has shape \[4, 2, 3\], but .* \[2, 2, 3\]"):
        UnderstudyKeepBetter.check_lazy_status(before, [torch.rand(4, 2, 2, 3)], scores)


def test_keep_better_compares_with_each_image_s_own_source_and_asks_anew_for_other_sources(without_host):
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.oracles.likeness import Likeness, StructuralSimilarity
    from understudy.oracles.scores import Scores

    own, others = torch.rand(2, 4, 16, 16, 3).unbind()
    before = torch.rand(4, 16, 16, 3)
    after = before.clone()
    after[1], after[3] = own[1], own[2]  # the second becomes its source, the last another's
    oracle, other = (Likeness(StructuralSimilarity(), list(each.movedim(-1, 1))) for each in (own, others))
    values = tuple(oracle(before.movedim(-1, 1), [""] * 4).tolist())

    def keep(oracle, against):
        scores = Scores(values, ("",) * 4, oracle.fingerprint, ("",) * 4, against=against)
        images, (kept,) = UnderstudyKeepBetter.execute([before], [after], [scores], [oracle], [""])
        return images[0], kept

    images, kept = keep(oracle, oracle.against)
    assert kept.scores_after[1] == 1 and torch.equal(images[1], own[1])
    assert kept.scores_after[3] == oracle(after.movedim(-1, 1), [""] * 4)[3]
    assert keep(other, oracle.against)[1].scores_after == (None,) * 4  # what it says does not compare with the scores
    with pytest.raises(OracleError, match="4 sources for 2 images"):
        scores = Scores(values[:2], ("",) * 2, oracle.fingerprint, ("",) * 2)
        UnderstudyKeepBetter.execute([before[:2]], [after[:2]], [scores], [oracle], [""])


class Reader(Brightness):
    """Remembers what it read."""

    def __init__(self):
        super().__init__()
        self.read = []

    def score_prepared(self, pixels, prompts):
        self.read += prompts
        return pixels.mean((1, 2, 3))


def test_how_prompts_are_read_travels_with_the_scores(without_host, monkeypatch):
    from understudy.nodes.hosted_oracle import HostedOracle
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.nodes.score_images import UnderstudyScoreImages

    without_host.get_free_memory.return_value = 1e15
    monkeypatch.setattr("understudy.nodes.score_images.settings_of_graph", lambda *_: {})
    monkeypatch.setattr(UnderstudyScoreImages, "hidden", SimpleNamespace(unique_id="1"), raising=False)
    images = [torch.rand(1, 2, 2, 3), torch.rand(1, 2, 2, 3)]
    given, plain = ["a (cat:1.3)", "a dog"], ["a cat", "a dog"]
    for literal, expected in ((False, plain), (True, given)):
        oracle = HostedOracle(Reader())
        scores, _ = UnderstudyScoreImages.execute([oracle], images, given, [literal])
        assert [each.prompts for each in scores] == [("a (cat:1.3)",), ("a dog",)]
        assert oracle.oracle.read == expected
        after = [batch * 0.5 for batch in images]
        _, kept = UnderstudyKeepBetter.execute(images, after, scores, [oracle], given)
        assert oracle.oracle.read == expected * 2, "made by this oracle for these prompts: only what is new is scored"
        assert [each.scores_after for each in kept] == [(pytest.approx(batch.mean().item()),) for batch in after]


def test_a_batch_without_images_is_refused(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle
    from understudy.nodes.score_images import UnderstudyScoreImages

    empty, oracle = torch.zeros(0, 16, 16, 3), HostedOracle(Brightness())
    with pytest.raises(ValueError, match="entry 1 of images is an empty batch"):
        UnderstudyScoreImages.execute([oracle], [torch.zeros(1, 16, 16, 3), empty], ["a"])
    with pytest.raises(ValueError, match="images is an empty list"):
        UnderstudyScoreImages.execute([oracle], [], ["a"])
    with pytest.raises(OracleError, match="there are no images"):
        oracle(empty.movedim(-1, 1), [])
    assert oracle.oracle.seen == []


def test_a_batch_of_a_thousand_goes_in_chunks_of_at_most_64(without_host):
    from understudy.nodes.hosted_oracle import HostedOracle

    oracle = HostedOracle(Brightness())
    without_host.get_free_memory.return_value = 1e15
    assert len(oracle(torch.zeros(1000, 3, 2, 2), ["0"] * 1000)) == 1000
    assert max(oracle.oracle.seen) == 64
