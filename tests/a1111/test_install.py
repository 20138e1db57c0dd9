"""What a real A1111 makes of the clone before anything of it is used."""

import re


def test_the_host_runs_install_and_shows_what_it_says(a1111):
    starts = {"--skip-install", "--skip-prepare-environment"}.isdisjoint(a1111.arguments)
    a1111.needs(starts, "run of install.py as it is started here")
    said = [line for line in a1111.log_text().splitlines() if line.startswith("Understudy:")]
    assert said[0] == "Understudy: nothing is installed; oracles go into models/oracles."


def test_nothing_of_ours_fails_while_the_host_starts(a1111):
    start, *_ = re.split("Uvicorn running|Running on local URL", a1111.log_text())
    assert "*** Error" not in start


def test_the_host_lists_the_script_for_requests(a1111):
    assert "understudy" in a1111.get("/sdapi/v1/scripts")["txt2img"]
