"""Runs the scripts of the page by Node."""

import importlib.resources
import json
import shutil
import subprocess

import numpy as np
import pytest

FOLDER = importlib.resources.files("segjax.inference") / "page"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the scripts of the page need it")
# Arrays are JSON objects with their type, so that JavaScript has typed arrays.
TYPES = {
    "uint8": "Uint8Array",
    "uint16": "Uint16Array",
    "int32": "Int32Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
}
DRIVER = """
const TYPES = {Uint8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array};
const revive = (key, value) => (value && value.type in TYPES ? TYPES[value.type].from(value.values) : value);
const write = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const input = JSON.parse(require("fs").readFileSync(0, "utf8"), revive);
(async () => {
  process.stdout.write(JSON.stringify(await (async (input) => { BODY })(input), write));
})();
"""


def run(scripts, body, **values):
    """Returns the result of the body of a JavaScript function, after some scripts of the page.

    The values are properties of `input`; arrays become flat typed arrays.
    """
    source = "\n".join([*((FOLDER / name).read_text() for name in scripts), DRIVER.replace("BODY", body)])
    content = json.dumps(values, default=as_typed)
    done = subprocess.run([NODE, "-e", source], input=content, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_typed(value):
    assert isinstance(value, np.ndarray)
    return {"type": TYPES[value.dtype.name], "values": value.ravel().tolist()}
