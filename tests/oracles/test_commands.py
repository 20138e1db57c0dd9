"""understudy oracle info, convert and download."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors import safe_open
from understudy.cli import main
from understudy.oracles import clip as clip_module
from understudy.oracles import load_oracle, published
from understudy.oracles.download import DownloadError, download
from understudy.oracles.published import by_name, folder_for
from understudy.oracles.tensors import TensorFile

from . import small_files
from .families import test_aesthetic_v2_5

IMAGES = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a cat", "a small red star"]
SIGLIP = "siglip-so400m-patch14-384"


def run(*words):
    """Exit code of a command."""
    try:
        main(["oracle", *map(str, words)])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_info_says_what_a_file_is(tmp_path, capsys):
    torch.save(small_files.image_reward_tensors(), tmp_path / "ImageReward.pt")
    assert run("info", tmp_path / "ImageReward.pt") == 0
    told = capsys.readouterr().out
    for words in ("imagereward", "standard deviations", "MiB", "Apache-2.0", "2304.05977", "of this name has another"):
        assert words in told
    small_files.write(small_files.head_tensors("layers.", 8), tmp_path / "head.safetensors")
    assert run("info", tmp_path / "head.safetensors") == 0
    assert "image encoder clip-vit-large-patch14" in capsys.readouterr().out
    clip = small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "mine.safetensors")
    assert run("info", clip) == 0
    told = capsys.readouterr().out
    assert "activation gelu" in told
    assert "clipscore" in told and "OpenAI" not in told and "2103.00020" not in told
    assert told.count("not known") == 3, "licence, page and source of somebody's CLIP"
    assert run("convert", tmp_path / "ImageReward.pt", "--out", tmp_path / "mine2.safetensors") == 0
    assert run("info", tmp_path / "mine2.safetensors") == 0
    assert "2304.05977" in capsys.readouterr().out, "it says what it was made from"
    clip.rename(tmp_path / "PickScore_v1.safetensors")
    assert run("info", tmp_path / "PickScore_v1.safetensors") == 0
    assert "2305.01569" not in capsys.readouterr().out, "a name alone does not make it one"
    (tmp_path / "page.safetensors").write_text("<html>")
    assert run("info", tmp_path / "page.safetensors") == 2
    assert "web page" in capsys.readouterr().err


def test_info_of_a_file_that_does_not_tell_its_family(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clip_module, "HUGE_WIDTH", 128)  # so that this small one could be an HPS, as ViT-H-14 could
    clip = small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "mine.safetensors")
    assert run("info", clip) == 0
    told = capsys.readouterr().out
    assert "clipscore or hpsv2 or hpsv2.1; the file does not say which" in told and "depends on the family" in told


def test_info_of_encoders_and_joined_files(tmp_path, small_clip, capsys):
    siglip = small_files.write(small_files.siglip_network().state_dict(), tmp_path / by_name(SIGLIP).file)
    assert run("info", siglip) == 0
    told = capsys.readouterr().out
    assert "none; the image encoder of aesthetic-v2.5" in told and "2303.15343" in told and by_name(SIGLIP).page in told
    half = {key: value for key, value in TensorFile(small_clip[0]).items() if key.startswith("vis")}
    assert run("info", small_files.write(half, tmp_path / "half.safetensors")) == 0
    assert "none; the image encoder of laion-aesthetic-v2" in capsys.readouterr().out
    torch.save(small_files.head_tensors("layers.", 48), tmp_path / by_name("laion-aesthetic-v2").file)
    whole = tmp_path / "whole.safetensors"
    head = tmp_path / by_name("laion-aesthetic-v2").file
    assert run("convert", head, "--encoder", small_clip[0], "--out", whole) == 0
    capsys.readouterr()
    assert run("info", whole) == 0
    told = capsys.readouterr().out
    assert "laion-aesthetic-v2" in told and "github.com/christophschuhmann" in told and "needs" not in told


@pytest.mark.parametrize("half", [False, True])
def test_convert_makes_one_file_that_scores_the_same(tmp_path, half):
    torch.save({"state_dict": small_files.open_clip_network(True).state_dict()}, tmp_path / "openai.pt")
    out = tmp_path / "hps.safetensors"
    assert run("convert", tmp_path / "openai.pt", "--family", "hpsv2", "--out", out, *["--half"] * half) == 0
    with safe_open(out, "pt") as file:
        assert file.metadata()["family"] == "hpsv2" and file.metadata()["hidden_act"] == "quick_gelu"
        assert file.get_tensor("visual.proj").dtype == (torch.float16 if half else torch.float32)
        assert file.get_tensor("logit_scale").dtype == torch.float32
    before, after = load_oracle(tmp_path / "openai.pt", "hpsv2"), load_oracle(out)
    assert after.family == "hpsv2"
    torch.testing.assert_close(after(IMAGES, PROMPTS), before(IMAGES, PROMPTS), atol=1e-2 if half else 0, rtol=0)


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_convert_joins_a_head_and_its_encoder(tmp_path, small_clip, layout):
    torch.save(small_files.head_tensors("layers.", 48), tmp_path / "head.pth")
    encoder = small_clip[0]
    if layout == "open_clip":
        state = small_files.open_clip_network(True).state_dict()
        encoder = small_files.write(state, tmp_path / "openai.safetensors")
    out = tmp_path / "whole.safetensors"
    assert run("convert", tmp_path / "head.pth", "--encoder", encoder, "--out", out) == 0
    both = load_oracle(tmp_path / "head.pth", encoder=encoder)
    assert torch.equal(load_oracle(out)(IMAGES, PROMPTS), both(IMAGES, PROMPTS))


def test_convert_joins_a_head_and_a_siglip(tmp_path):
    head, encoder = test_aesthetic_v2_5.small(tmp_path)
    assert run("convert", head, "--encoder", encoder, "--out", tmp_path / "whole.safetensors") == 0
    whole, both = load_oracle(tmp_path / "whole.safetensors"), load_oracle(head, encoder=encoder)
    assert whole.family == "aesthetic-v2.5" and torch.equal(whole(IMAGES, PROMPTS), both(IMAGES, PROMPTS))


def test_a_file_converted_twice_still_says_what_it_was_made_from(tmp_path, capsys):
    torch.save(small_files.image_reward_tensors(), tmp_path / "ImageReward.pt")
    assert run("convert", tmp_path / "ImageReward.pt", "--out", tmp_path / "once.safetensors") == 0
    assert run("convert", tmp_path / "once.safetensors", "--half", "--out", tmp_path / "twice.safetensors") == 0
    capsys.readouterr()
    assert run("info", tmp_path / "twice.safetensors") == 0
    assert "2304.05977" in capsys.readouterr().out


def test_an_encoder_that_nothing_needs_is_refused(tmp_path, small_clip, capsys):
    """Its image half would replace the CLIP's own, or be ignored."""
    assert run("convert", small_clip[0], "--encoder", small_clip[0], "--out", tmp_path / "x.safetensors") == 2
    assert "(clipscore) scores without an image encoder; leave" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_convert_refuses_before_it_writes(tmp_path, capsys):
    head = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "head.safetensors")
    assert run("convert", head, "--out", tmp_path / "x.safetensors") == 2
    assert run("convert", head, "--out", tmp_path / "x.pt") == 2
    assert run("convert", head, "--out", head) == 2
    told = capsys.readouterr().err
    assert "only the head" in told and "ends in .safetensors" in told and "is there already" in told
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]


class Server(BaseHTTPRequestHandler):
    """A hub: it states size and hash, redirects to the bytes, and can break off."""

    content = bytes(range(256)) * 20_000
    stated = hashlib.sha256(content).hexdigest()
    breaks_at = None
    ranges = []

    states_length = True
    renamed = False
    goes_on = True  # where it is asked to
    shifted = 0

    def do_HEAD(self):
        if self.path == "/file" and self.renamed:
            self.send_response(307)
            self.send_header("Location", "/new/file")
            self.send_header("Content-Length", "54")
        elif self.path == "/plain":
            self.send_response(200)
            if self.states_length:
                self.send_header("Content-Length", str(len(self.content)))
        else:
            self.send_response(302)
            self.send_header("Location", f"http://{self.headers['Host']}/bytes")
            self.send_header("Content-Length", "1000")
            if self.stated is not None:
                self.send_header("X-Linked-Size", str(len(self.content)))
                self.send_header("X-Linked-ETag", f'"{self.stated}"')
        self.end_headers()

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.goes_on else 0
        start += self.shifted
        self.send_response(206 if asked and self.goes_on else 200)
        if asked and self.goes_on:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        body = self.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.breaks_at is None else body[: self.breaks_at])

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub():
    handler = type("Hub", (Server,), {"ranges": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/file"
    yield handler, replace(by_name("hpsv2"), url=url, sha256=None, size=None)
    server.shutdown()
    server.server_close()


def test_download_checks_and_is_not_repeated(hub, tmp_path):
    handler, entry = hub
    seen = []
    path, checked = download(entry, tmp_path / "oracles", lambda done, total: seen.append((done, total)))
    assert checked and path.read_bytes() == handler.content and path.name == "HPS_v2_compressed.pt"
    assert seen[-1] == (len(handler.content),) * 2
    assert download(entry, tmp_path / "oracles") == (path, True) and len(handler.ranges) == 1


def test_download_goes_on_where_it_broke_off(hub, tmp_path):
    handler, entry = hub
    handler.breaks_at = 3_000_000
    with pytest.raises(DownloadError, match="bytes are kept; run it again to go on"):
        download(entry, tmp_path)
    kept = (tmp_path / "HPS_v2_compressed.pt.partial").stat().st_size
    assert 0 < kept <= 3_000_000 and not (tmp_path / "HPS_v2_compressed.pt").exists()
    handler.breaks_at = None
    assert download(entry, tmp_path).path.read_bytes() == handler.content
    assert handler.ranges == [None, f"bytes={kept}-"]
    assert [path.name for path in tmp_path.iterdir()] == ["HPS_v2_compressed.pt"]


def test_a_server_that_cannot_go_on_sends_it_all(hub, tmp_path):
    handler, entry = hub
    handler.goes_on = False
    (tmp_path / f"{entry.file}.partial").write_bytes(b"other bytes")
    seen = []
    assert download(entry, tmp_path, lambda done, _: seen.append(done)).path.read_bytes() == handler.content
    assert handler.ranges == ["bytes=11-"] and seen[-1] == len(handler.content)


def test_a_server_that_goes_on_elsewhere_is_not_believed(hub, tmp_path):
    handler, entry = hub
    handler.shifted = 100
    partial = tmp_path / f"{entry.file}.partial"
    partial.write_bytes(handler.content[:1000])
    with pytest.raises(DownloadError, match="went on at another place"):
        download(entry, tmp_path)
    assert not partial.exists(), "or it would be asked again for the same"
    handler.shifted = 0
    assert download(entry, tmp_path).path.read_bytes() == handler.content


def test_what_arrived_whole_needs_no_more_bytes(hub, tmp_path):
    handler, entry = hub
    (tmp_path / f"{entry.file}.partial").write_bytes(handler.content)
    assert download(entry, tmp_path).hash_checked and handler.ranges == []
    assert [path.name for path in tmp_path.iterdir()] == [entry.file]


def test_a_mirror_of_the_hub_may_be_named(hub, tmp_path, monkeypatch):
    handler, entry = hub
    mirror = entry.url.removesuffix("/file")
    entry = replace(entry, url=by_name("hpsv2").url)
    monkeypatch.setenv("HF_ENDPOINT", f"{mirror}/")
    assert download(entry, tmp_path).path.read_bytes() == handler.content
    (tmp_path / entry.file).unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="127.0.0.1:9/.*HF_ENDPOINT to the address of a mirror"):
        download(entry, tmp_path)


def test_a_wrong_file_is_not_kept(hub, tmp_path):
    handler, entry = hub
    handler.stated = "0" * 64
    with pytest.raises(DownloadError, match="not the published file: its SHA-256 is not 0000"):
        download(entry, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / entry.file).write_bytes(b"short")
    with pytest.raises(DownloadError, match="has 5 bytes, expected 5,120,000; delete it first"):
        download(entry, tmp_path)
    (tmp_path / entry.file).write_bytes(handler.content)
    with pytest.raises(DownloadError, match="its SHA-256 is not 0000.*; delete it first, then download hpsv2 again"):
        download(entry, tmp_path)
    assert (tmp_path / entry.file).exists() and len(handler.ranges) == 1


def test_a_renamed_repository_is_followed_to_size_and_hash(hub, tmp_path):
    handler, entry = hub
    handler.renamed = True
    path, checked = download(entry, tmp_path)
    assert checked and path.read_bytes() == handler.content


@pytest.mark.parametrize("at", ["/file", "/plain"])
def test_without_a_hash_that_is_said(hub, tmp_path, capsys, monkeypatch, at):
    handler, entry = hub
    handler.stated = None
    entry = replace(entry, url=entry.url.replace("/file", at))
    monkeypatch.setattr(published, "PUBLISHED", (entry,))
    assert run("download", "hpsv2", "--to", tmp_path) == 0
    assert (tmp_path / entry.file).read_bytes() == handler.content
    assert "so its bytes were not checked" in capsys.readouterr().out


def test_without_a_size_a_short_body_is_still_noticed(hub, tmp_path):
    handler, entry = hub
    handler.stated, handler.states_length = None, False
    entry = replace(entry, url=entry.url.replace("/file", "/plain"))
    handler.breaks_at = 1_000_000
    with pytest.raises(DownloadError, match="the connection broke off. 1,000,000 bytes are kept"):
        download(entry, tmp_path)
    assert not (tmp_path / entry.file).exists()
    handler.breaks_at = None
    assert download(entry, tmp_path) == (tmp_path / entry.file, False)
    assert handler.ranges == [None, None], "nothing says what a second half would belong to"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ConnectionResetError("reset by peer")])
def test_a_full_disk_or_a_reset_keeps_what_arrived(hub, tmp_path, monkeypatch, error):
    handler, entry = hub

    def on_progress(done, total):
        if done > 2_000_000:
            raise error

    with pytest.raises(DownloadError, match=f"{error.args[-1]}.*bytes are kept; run it again"):
        download(entry, tmp_path, on_progress)
    assert download(entry, tmp_path).path.read_bytes() == handler.content
    assert handler.ranges[1].startswith("bytes=")


def test_download_names_what_the_server_said(hub, tmp_path):
    handler, entry = hub
    missing = replace(entry, url=entry.url.replace("/file", "/missing"), sha256="0" * 64, size=9)
    with pytest.raises(DownloadError, match="the server said 404.*by other means"):
        download(missing, tmp_path)


def test_download_lists_names_and_needs_a_folder(capsys):
    assert run("download") == 0
    assert "laion-aesthetic-v2" in capsys.readouterr().out
    assert run("download", "hpsv3") == 2
    assert run("download", "hpsv2") == 2
    told = capsys.readouterr().err
    assert "choose one of aesthetic-v2.5" in told and "--to FOLDER" in told


@pytest.mark.parametrize(
    ("name", "folder"),
    [("hpsv2", "oracles"), ("clip-vit-large-patch14", "clip_vision"), ("siglip-so400m-patch14-384", "clip_vision")],
)
def test_inside_comfyui_a_file_goes_where_its_loader_looks(tmp_path, monkeypatch, name, folder):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "any name"
    monkeypatch.setattr(published, "__file__", str(pack / "oracles" / "published.py"))
    assert folder_for(by_name(name)) == tmp_path / "ComfyUI" / "models" / folder
    (tmp_path / "clone" / "oracles").mkdir(parents=True)
    pack.parent.mkdir(parents=True)
    pack.symlink_to(tmp_path / "clone", target_is_directory=True)
    assert folder_for(by_name(name)) == tmp_path / "ComfyUI" / "models" / folder, "a linked pack is in it too"
