"""The archive that the registry would get, and what the field's scanners say of it.

Makes it by `comfy node pack` from the clone that is the working folder, and runs over what it holds: `comfy node
validate`, comfy-test's static levels, nodesafe, comfy-import-guard against a clone of ComfyUI, and comfy-lint over
every template. Each finding has to be answered by one row of findings.toml, and each row has to answer one: the code
is not bent to please a scanner, and a real finding is not lost among false alarms. Usage: scan.py WORK_FOLDER
[COMFYUI_CLONE]; without a clone the import guard does not run.
"""

import json
import logging
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import tomlkit

log = logging.getLogger("scan")
ARCHIVE = Path("node.zip")  # the name that comfy gives it


@dataclass(frozen=True)
class Finding:
    tool: str
    says: str
    file: str = ""
    line: int = 0

    def __str__(self):
        return f"{self.tool}: {self.says} in {self.file or 'the whole'}{f':{self.line}' if self.line else ''}"


@dataclass(frozen=True)
class Answer:
    """A row of findings.toml. says: a regular expression; file: a pattern; line: what the source has to have there."""

    tool: str
    says: str
    why: str
    file: str = "*"
    line: str = ""

    def answers(self, finding: Finding, root: Path) -> bool:
        if finding.tool != self.tool or not re.search(self.says, finding.says) or not fnmatch(finding.file, self.file):
            return False
        if not self.line:
            return True
        lines = (root / finding.file).read_text(encoding="utf-8").splitlines()
        return re.search(self.line, lines[finding.line - 1]) is not None


def run(*command, codes=(0,)) -> str:
    """stdout; raises RuntimeError with what was said where the code is none of ``codes``."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, encoding="utf-8")
    if done.returncode not in codes:
        said = (done.stdout + done.stderr)[-5000:]
        raise RuntimeError(f"{command[0]} ended with code {done.returncode}:\n{said}")
    return done.stdout


def unpacked(folder: Path) -> Path:
    """The archive's files, in the place of a pack in a ComfyUI."""
    run("comfy", "--skip-prompt", "node", "validate")
    try:
        run("comfy", "--skip-prompt", "node", "pack")
        with zipfile.ZipFile(ARCHIVE) as archive:
            log.info("%d files, %.1f MB packed", len(archive.namelist()), ARCHIVE.stat().st_size / 1e6)
            archive.extractall(folder)
    finally:
        ARCHIVE.unlink(missing_ok=True)
    return folder


def nodesafe(root: Path):
    for found in json.loads(run("nodesafe", "scan", root, "--format", "json", codes=(0, 1, 2)))["findings"]:
        yield Finding("nodesafe", found["title"], found.get("file") or "", found.get("line") or 0)


def comfy_test(root: Path):
    """Its levels without a server; what it lists are lines under the name of a file."""
    for result in json.loads(run("comfy-test", "lint", root, "--json", codes=(0, 1)))["results"].values():
        file = ""
        for line in (result["details"] or "").splitlines():
            if heading := re.fullmatch(r"(\S+\.py):", line):
                file = heading[1]
            elif place := re.fullmatch(r"\s+Line (\d+): (.+)", line):
                yield Finding("comfy-test", place[2], file, int(place[1]))
        if not result["passed"] and not file:
            yield Finding("comfy-test", result["error"])


def import_guard(root: Path, comfyui: Path):
    command = ("comfy-import-guard", "--cache-dir", comfyui.parent, "check", "--comfy-dir", root.parents[1])
    told = json.loads(run(*command, "--no-update", "--target", "HEAD", "--json", codes=(0, 1)))
    (pack,) = told["packs"]
    for found in (*pack["breaking"], *pack["soft"], *pack["unresolvable"], *pack["signature_drift"]):
        yield Finding("comfy-import-guard", f"{found['status']} {found['dotted']}", found["file"], found["line"])


def comfy_lint(work: Path):
    """Every template as the prompt that each host that it runs on would get of it."""
    run(sys.executable, "-m", "templates.prompts", work / "prompts")
    for host in sorted((work / "prompts").iterdir()):
        command = ("comfy-lint", "--json", "--schema-cache", host / "object_info.json")
        told = json.loads(run(*command, *sorted(host.glob("*.prompt.json")), codes=(0, 1)))
        for file in told["files"]:
            name = Path(file["path"]).name.removesuffix(".prompt.json")
            for found in file["diagnostics"]:
                says = f"{found['rule']}: {found['class_type']}: {found['message']}"
                yield Finding("comfy-lint", says, f"{name}, ComfyUI {host.name}")


def main(work: Path, comfyui: Path | None = None) -> int:
    root = unpacked(work / "ComfyUI-of-scanners" / "custom_nodes" / "understudy-nodes")
    rows = tomlkit.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8")).unwrap()
    answers = [Answer(tool, **row) for tool, of_tool in rows.items() for row in of_tool]
    findings = [*nodesafe(root), *comfy_test(root), *comfy_lint(work)]
    if comfyui is None:
        log.warning("there is no clone of ComfyUI: comfy-import-guard did not run")
        answers = [answer for answer in answers if answer.tool != "comfy-import-guard"]
    else:
        findings += import_guard(root, comfyui)
    used, unanswered = set(), []
    for finding in findings:
        answer = next((answer for answer in answers if answer.answers(finding, root)), None)
        used.add(answer)
        if answer is None:
            unanswered.append(finding)
    stale = [answer for answer in answers if answer not in used]
    for finding in unanswered:
        log.error("not answered in findings.toml: %s", finding)
    for answer in stale:
        log.error("findings.toml answers what is no longer found: %s: %s", answer.tool, answer.says)
    log.info("%d findings, %d rows that answer them", len(findings), len(answers))
    return 1 if unanswered or stale else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sys.exit(main(*(Path(folder).resolve() for folder in sys.argv[1:])))
