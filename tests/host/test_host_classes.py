"""What the builder of templates knows of the hosts' nodes is what the hosts say."""

from understudy.templates import hosts
from understudy.templates.schemas import PACK, reduced, schemas


def test_hosts_json_is_what_this_host_says(host):
    """``python -m understudy.templates.hosts http://127.0.0.1:8188`` renews it."""
    told, version = host.object_info(), host.get("/system_stats")["system"]["comfyui_version"]
    known = hosts.classes(version)
    for name in hosts.used():
        assert (name in told) == (name in known), name
        assert name not in told or hosts.reduced(told[name]) == known[name]


def test_the_pack_s_classes_are_what_this_host_says(host):
    """``python -m understudy.templates.schemas http://127.0.0.1:8188`` renews them."""
    told = host.object_info()
    for name, each in schemas().items():
        if each.pack == PACK:
            now = reduced(told[name])
            assert [(i.name, i.type, i.optional, i.widget) for i in now.inputs] == [
                (i.name, i.type, i.optional, i.widget) for i in each.inputs
            ], name
            assert now.outputs == each.outputs, name
