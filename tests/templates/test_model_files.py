"""Where models' files are, and what templates name of them."""

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest
from understudy.oracles.published import PUBLISHED
from understudy.samplers.presets import of_file
from understudy.templates.__main__ import PACK
from understudy.templates.hosts import nodes_of
from understudy.templates.model_files import FILES, HUB, in_words, of_url

TEMPLATES = sorted((PACK / "example_workflows").glob("*.json"))
SAID = {(each.name, each.url, each.directory, each.sha256) for each in FILES}
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def test_each_file_has_an_address_with_a_source():
    assert len(FILES) == len({each.url for each in FILES}) >= 20
    for each in FILES:
        assert re.fullmatch(r"TPL \w+|front end|oracles|page [\w.-]+/[\w.-]+", each.source), each
        assert each.url.startswith(f"{HUB}/") and each.url.partition("?")[2] in ("", "download=true")
        if each.source.startswith("page "):
            assert each.url.startswith(f"{HUB}/{each.source[5:]}/resolve/main/")
        assert each.bytes > 1e8 and each.size


def test_a_file_is_called_as_a_browser_saves_it():
    for each in FILES:
        assert each.name == urlsplit(each.url).path.split("/")[-1] and each.name.endswith(WEIGHTS)
    odd = of_url("https://example.org/a/b%2Bc.pth?download=true", "oracles", 2e9, "oracles")
    assert (odd.name, odd.size) == ("b+c.pth", "2 GB")


def test_sizes_are_as_on_the_hub_s_pages():
    assert [in_words(size) for size in (12.34e9, 1e9, 394e6, 17.2e9)] == ["12.3 GB", "1 GB", "394 MB", "17.2 GB"]


def test_oracles_are_the_pack_s_own_record():
    published = {(each.url, each.sha256, each.folder) for each in PUBLISHED}
    found = [each for each in FILES if each.source == "oracles"]
    assert found and all((each.url, each.sha256, each.directory) in published for each in found)
    assert all(each.sha256 for each in found)


def test_files_of_one_folder_that_are_called_alike_are_one():
    """qwen_image_vae.safetensors is one file, which two repositories have."""
    called = Counter((each.directory, each.name) for each in FILES)
    assert [name for name, count in called.items() if count > 1] == [("vae", "qwen_image_vae.safetensors")]


def notes(path):
    return [node["widgets_values"][0] for node in nodes_of(path) if node["type"] == "MarkdownNote"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_s_loaders_name_the_table_s_files(path):
    for node in nodes_of(path):
        models = node["properties"].get("models", ())
        for each in models:
            assert (each["name"], each["url"], each["directory"], each.get("hash")) in SAID, each
            assert ("hash" in each) == (each.get("hash_type") == "SHA256")
        weights = [value for value in node.get("widgets_values") or () if str(value).endswith(WEIGHTS)]
        assert sorted(weights) == sorted(each["name"] for each in models), (node["type"], node["id"])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_s_note_links_each_of_its_files(path):
    named = {each["url"]: each["directory"] for node in nodes_of(path) for each in node["properties"].get("models", ())}
    text = "\n".join(notes(path))
    assert set(re.findall(r"\]\((\S+/resolve/\S+)\)", text)) == set(named)
    sizes = {each.url: each.size for each in FILES}
    for url, folder in named.items():
        (file,) = (each for each in FILES if each.url == url)
        assert f"[{file.name}]({url}) ({sizes[url]})" in text
        assert re.search(rf"── {folder}/$(\n.*)*── {re.escape(file.name)}$", text, re.M), file.name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_note_that_links_files_says_the_oldest_host(path):
    for text in notes(path):
        assert ("/resolve/" in text) == bool(re.search(r"^- ComfyUI \d+\.\d+\.\d+ or later$", text, re.M))


def test_students_files_say_what_they_are():
    """But LCM's, whose template says it instead."""
    silent = [each.name for each in FILES if each.directory in ("loras", "diffusion_models", "checkpoints")]
    silent = [name for name in silent if of_file(name) is None]
    teachers = {"z_image_bf16", "krea2_raw_fp8_scaled", "qwen_image_2512_fp8_e4m3fn", "qwen_image_fp8_e4m3fn"}
    teachers |= {"flux-2-klein-base-4b", "flux1-dev-fp8", "sd_xl_base_1.0", "v1-5-pruned-emaonly-fp16"}
    assert {name.removesuffix(".safetensors") for name in silent} == teachers | {"pytorch_lora_weights"}
