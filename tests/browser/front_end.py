"""ComfyUI's front end in a browser: what a user clicks, and what is then on the canvas."""

import base64
import io
import time

from PIL import Image

from ..chromium import Page

FOLDER = "understudy-nodes"  # the host serves no templates from a folder with a space in its name
CLASSIC, NODES_2 = RENDERERS = ("classic", "Nodes 2.0")
RUN, STOP = '[data-testid="queue-button"]', 'button[aria-label="Cancel current run"]'
APP_RUN, TOUR = '[data-testid="linear-run-button"] button', 'img[src*="app-mode-landing"]'  # of an app, and before it
NOTE = "MarkdownNote"
DIALOG = '[data-testid="template-workflows-content"]'
# The host's own words: on any bypassed node that has no input to hand on for an output, and on its registry, which it
# asks who made a node and does not reach here.
HOSTS_WORDS = "ExecutableNodeDTO.resolveOutput", "https://api.comfy.org/"

# What the canvas knows of the nodes of the graph that is open: where they are in the window, what is wrong with them.
NODES = """
const { canvas } = app, { ds } = canvas, at = canvas.canvas.getBoundingClientRect()
return canvas.graph.nodes.map(node => {
  const shown = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
  const [x, y, width, height] = node.boundingRect
  const drawn = [at.x + (x + ds.offset[0]) * ds.scale, at.y + (y + ds.offset[1]) * ds.scale,
                 width * ds.scale, height * ds.scale]
  const needed = node.constructor.nodeData?.input?.required ?? {}
  return {
    id: `${node.id}`, type: node.type, title: node.title,
    box: shown ? [shown.x, shown.y, shown.width, shown.height] : drawn,
    red: !!node.has_errors, known: node.type in LiteGraph.registered_node_types,
    open: node.inputs.filter(each => each.link == null && !each.widget && each.name in needed).map(each => each.name),
  }
})
"""
# Every text in HTML (all on the nodes of Nodes 2.0, notes and prompts on classic ones), with the height of its font as
# the host has it and on the screen, and its node in Nodes 2.0.
TEXTS = """
const found = []
for (const node of document.querySelectorAll('[data-node-id], .dom-widget')) {
  const scale = node.getBoundingClientRect().width / node.offsetWidth  // of the widest, as offsets are whole numbers
  for (const each of [node, ...node.querySelectorAll('*')]) {
    const own = [...each.childNodes].filter(child => child.nodeType === 3).map(child => child.data).join('').trim()
    const said = own || each.value || '', wide = each.getBoundingClientRect().width
    if (said && wide && each.offsetWidth && each.checkVisibility({ opacityProperty: true })) {
      const size = parseFloat(getComputedStyle(each).fontSize)
      found.push([said, size, size * scale, node.dataset.nodeId ?? null])
    }
  }
}
return found
"""
IN_ALL = "const graphs = [app.graph, ...app.graph.subgraphs.values()]\n"
SELECT = f"""{IN_ALL}
const graph = graphs.find(each => each.nodes.some(node => node.type === arguments[0]))
if (!graph) return false
app.canvas.setGraph(graph)
app.canvas.selectItems(graph.nodes.filter(node => node.type === arguments[0]))
return true
"""
TYPE = f"""{IN_ALL}
const [name, given] = arguments
const named = each => (each.label ?? each.name).includes(name) && typeof each.value === 'number'
return graphs.flatMap(graph => graph.nodes).flatMap(node => node.widgets ?? []).filter(named).map((each, place) => {{
  const before = each.value
  each.value = Array.isArray(given) ? given[place] : given
  each.callback?.(each.value)
  return before
}})
"""
# How much of its own size the picture of a node has on the screen: the classic canvas draws it, Nodes 2.0 has HTML.
SHOWN = """
(async (kind) => {
  const node = app.graph.nodes.find(each => each.type === kind), ink = CanvasRenderingContext2D.prototype
  const html = document.querySelector(`[data-node-id="${node.id}"] img`), draw = ink.drawImage
  if (html) {
    const box = html.getBoundingClientRect()
    return Math.min(box.width / html.naturalWidth, box.height / html.naturalHeight)
  }
  let scale = 0
  ink.drawImage = function (image, ...box) {
    if (node.imgs?.includes(image)) {
      scale = box.at(-2) / image.naturalWidth * this.getTransform().a / devicePixelRatio
    }
    return draw.call(this, image, ...box)
  }
  app.canvas.setDirty(true, true)
  await new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))
  ink.drawImage = draw
  return scale
})(arguments[0])
"""
WRITE = """
const [kind, text] = arguments, node = app.graph.nodes.find(each => each.type === kind)
node.widgets.find(each => each.name === 'text').value = text
"""
RESIZE = """
const [kind, size, zoom] = arguments, node = app.graph.nodes.find(each => each.type === kind)
const { canvas, ds } = app.canvas
node.setSize(size)
ds.scale = zoom
ds.offset = [canvas.clientWidth / zoom / 2 - node.pos[0] - size[0] / 2,
             canvas.clientHeight / zoom / 2 - node.pos[1] - size[1] / 2]
app.canvas.setDirty(true, true)
"""
DROP = """
const [name, content] = arguments, bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0))
const given = new DataTransfer()
given.items.add(new File([bytes], name, { type: 'image/png' }))
const options = { dataTransfer: given, bubbles: true, cancelable: true, clientX: 700, clientY: 500 }
app.canvas.canvas.dispatchEvent(new DragEvent('drop', options))
"""


def ours(text: str) -> list[str]:
    """The lines that name the pack, its folder or one of its nodes."""
    lines = [line for line in text.splitlines() if "understudy" in line.lower()]
    return [line for line in lines if not any(words in line for words in HOSTS_WORDS)]


class FrontEnd(Page):
    """The one page, on a server. ``clicks`` counts the user's since the page was opened."""

    seconds = 30

    def __init__(self, driver, server):
        super().__init__(driver)
        self.server, self.clicks = server, 0

    def open(self, first=False):
        """Load the page; ``first``: as somebody has it who never opened it before."""
        self.server.post("/settings/Comfy.TutorialCompleted", not first)
        self.server.post("/settings/Comfy.OnboardingCoachmarks.Seen", [] if first else ["appMode"])
        if first:
            self.js("localStorage.clear(); sessionStorage.clear()")
        self.driver.get(f"http://127.0.0.1:{self.server.port}/")
        self.until("the front end", "window.app?.canvas?.graph && document.querySelector(arguments[0])", RUN)
        self.clicks = 0

    def alone(self, name: str) -> Image.Image:
        """A picture of the graph without what the front end lays over it: its map, and its figures of drawing."""
        for shown in (False, True):
            for each in ("Comfy.Minimap.Visible", "Comfy.Graph.CanvasInfo"):
                self.setting(each, shown)
            if not shown:
                self.settle()
                self.shot(name)
                picture = Image.open(io.BytesIO(self.driver.get_screenshot_as_png()))
        return picture

    def messages(self) -> list[str]:
        """What the console said of us since it was last asked."""
        return [each["message"] for each in self.driver.get_log("browser") if ours(each["message"])]

    def wait(self, code: str, *values):
        """The value of a promise."""
        end = "const end = arguments[arguments.length - 1]"
        return self.driver.execute_async_script(f"{end}; Promise.resolve({code}).then(it => end(it ?? null))", *values)

    def command(self, name: str):
        """One of the front end's own, as its menus and keys have it."""
        self.wait("app.extensionManager.command.execute(arguments[0])", name)

    def setting(self, name: str, value):
        self.wait("app.extensionManager.setting.set(arguments[0], arguments[1])", name, value)

    def render(self, renderer: str):
        self.setting("Comfy.VueNodes.Enabled", renderer == NODES_2)

    def click(self, what: str, selector: str, text: str = ""):
        """As a user does it, once it is there; ``text``: the one that says so."""
        from selenium.common.exceptions import ElementClickInterceptedException

        named = "[...document.querySelectorAll(arguments[0])].find(each => each.innerText.includes(arguments[1]))"
        found = self.until(what, named, selector, text)
        self.js("arguments[0].scrollIntoView({ block: 'nearest' })", found)
        end = time.monotonic() + self.seconds
        while True:
            try:
                found.click()
                break
            except ElementClickInterceptedException:  # a dialog is still fading out, or a message is on its way
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        self.clicks += 1

    def type_over(self, field, text: str):
        """In the place of what a field holds."""
        from selenium.webdriver.common.keys import Keys

        field.send_keys(Keys.CONTROL + "a")  # a modifier holds until the end of a call
        field.send_keys(text)

    def click_canvas(self):
        """In its middle, where a node that follows the mouse is then placed."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.js("return app.canvas.canvas")
        ActionChains(self.driver).move_to_element(canvas).pause(0.3).click().perform()
        self.clicks += 1

    def browse(self):
        self.click("the button of the templates", ".templates-tab-button")

    def choose(self, template: str):
        """A template in the dialog that is open, by the pack's category."""
        self.js("for (const node of app.graph.nodes) node.ofBefore = true")
        self.click("the pack's category", '[role="dialog"] [role="button"]', FOLDER)
        self.click(f"the template {template}", f'{DIALOG} [data-testid="template-workflow-{template}"]')
        there = "app.graph.nodes.length && !app.graph.nodes.some(node => node.ofBefore)"
        self.until("its graph", f"!document.querySelector(arguments[0]) && {there}", DIALOG)
        self.settle()

    def skip_the_tour(self):
        """Of the front end's own, which lies over the first app that somebody opens."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        self.until("the tour", "document.querySelector(arguments[0])", TOUR)
        ActionChains(self.driver).send_keys(Keys.ESCAPE).perform()
        self.until("the app behind it", "!document.querySelector(arguments[0])", TOUR)

    def leave_the_app(self):
        """From an app to the graph that it is made of, with all but its notes in sight, as any other graph opens."""
        self.until("the app", "document.querySelector('[data-testid=\"linear-widgets\"]')")
        self.command("Comfy.ToggleLinear")
        # A view that is fitted into a canvas of no size yet is nowhere.
        self.until("its graph", "document.querySelector(arguments[0]) && app.canvas.canvas.width", RUN)
        self.js("app.canvas.selectItems(app.graph.nodes.filter(node => node.type !== arguments[0]))", NOTE)
        self.command("Comfy.Canvas.FitView")
        self.js("app.canvas.deselectAll()")
        self.settle()

    def settle(self):
        """Until nothing on the canvas moves any more. HTML on it is where the last frame has put it, and on a busy
        machine the next may be late: one is waited for each time."""
        before, end = None, time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.wait("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            if before == (before := [node["box"] for node in self.nodes()]):
                return
            time.sleep(0.2)

    def blocks(self):
        """Opens each block of the graph in turn."""
        for number in self.js("return app.graph.nodes.filter(node => node.subgraph).map(node => node.id)"):
            self.js("app.canvas.setGraph(app.graph.getNodeById(arguments[0]).subgraph)", number)
            time.sleep(0.3)  # until the nodes of Nodes 2.0, which go by the same numbers, are the block's
            self.settle()
            yield number
        self.js("app.canvas.setGraph(app.graph)")

    def nodes(self) -> list[dict]:
        return self.js(NODES)

    def shown(self, kind: str) -> float:
        """How much of its own size the picture on the node of a kind has on the screen."""
        self.settle()
        return self.wait(SHOWN.strip(), kind)

    def texts(self) -> list[tuple[str, float, float, str | None]]:
        return self.js(TEXTS)

    def downloads(self) -> set[str]:
        """The missing files that the front end offers to fetch."""
        self.click("the word that files are missing", '[data-testid="error-overlay-see-errors"]')
        buttons = """[...document.querySelectorAll('[data-testid="missing-model-download"]')]"""
        found = self.until("the list of them", f"{buttons}.map(each => each.ariaLabel)")
        self.setting("Comfy.RightSidePanel.IsOpen", False)
        return {name.removeprefix("Download ") for name in found}

    def saved(self) -> dict:
        """The graph as it would be saved."""
        return self.js("return app.graph.serialize()")

    def run(self, button: str = RUN) -> dict:
        """Press Run and wait for the end: the server's record of it."""
        before = self.start(button)
        return self.end(before)

    def start(self, button: str = RUN) -> set[str]:
        """Press Run; what ``end`` is to be told."""
        before = {*self.server.get("/history")}
        self.click("Run", button, "Run" if button == APP_RUN else "")
        return before

    def end(self, before: set[str]) -> dict:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            for name, run in self.server.get("/history").items():
                if name not in before:
                    return run
            time.sleep(0.1)
        raise AssertionError(f"the run did not end within {self.seconds} s")

    def stop(self):
        self.until("the start", "!document.querySelector(arguments[0]).disabled", STOP)
        self.click("the button that stops", STOP)

    def bypass(self, kind: str):
        """Select the nodes of a kind, in a block if they are in one, and bypass them, or take that back."""
        assert self.js(SELECT, kind), f"there is no {kind}"
        self.command("Comfy.Canvas.ToggleSelectedNodes.Bypass")
        self.js("app.canvas.deselectAll(); app.canvas.setGraph(app.graph)")

    def fill(self, name: str, value) -> list:
        """Give all numbers of a name a value, or each its own of a list; what they were."""
        return self.js(TYPE, name, value)

    def write(self, kind: str, text: str):
        """Give the text of the node of a kind."""
        self.js(WRITE, kind, text)

    def resize(self, kind: str, size: tuple[int, int], zoom: float):
        """Give the node of a kind a size, and the canvas a zoom at which it is in the window's middle."""
        self.js(RESIZE, kind, size, zoom)
        self.settle()

    def drop(self, path):
        """A file from the user's disk onto an empty canvas."""
        self.command("Comfy.NewBlankWorkflow")
        self.until("an empty canvas", "!app.graph.nodes.length")
        self.js(DROP, path.name, base64.b64encode(path.read_bytes()).decode())
        self.until("the dropped graph", "app.graph.nodes.length")
        self.settle()
