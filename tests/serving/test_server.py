"""The server as programs and browsers call it, over HTTP on the loopback."""

import http.client
import io
import json
import threading
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
import uvicorn
from PIL import Image
from pycocotools import mask as coco_mask

from segjax.experiment.methods import OpenedMethod, open_method
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from segjax.serving import server as server_module
from segjax.serving import workspaces
from segjax.serving.app import make_app
from segjax.serving.methods import ServedMethod
from segjax.serving.server import Server
from segjax.serving.workspaces import Limits, Picture, Workspaces
from segjax.tasks.semantic import SemanticConfig, SemanticTask

LIMITS = Limits(upload=50_000, pixels=20_000, images=3)
RUNS = []


class Copying(SemanticTask):
    """The probability of a cell is the pixel divided by 255."""

    stride = 1

    def predict(self, params, images):
        cell = images[..., :1] / 255
        return {"classes": jnp.concatenate([1 - cell, cell], -1)}


def network():
    """A network that counts its runs in `RUNS`."""

    def prepare(image):
        RUNS.append(image.shape)
        return image.astype(np.float32)

    task = Copying(None, 2, SemanticConfig(instances="components", min_area=(1,)))
    method = create_predictor(task, None, prepare=prepare, config=PredictConfig(tile=128))
    return OpenedMethod(method, ("background", "nucleus"), 1)


def cells():
    """Three squares of 4, 16 and 36 pixels with the brightness 100, 150 and 250, [40, 50] uint8."""
    image = np.zeros((40, 50), np.uint8)
    image[2:4, 2:4], image[10:14, 10:14], image[20:26, 30:36] = 100, 150, 250
    return image


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def port():
    tiny, watershed = ServedMethod("tiny", network()), ServedMethod("watershed", open_method("watershed"))
    methods = {"tiny": lambda: tiny, "watershed": lambda: watershed}
    config = uvicorn.Config(make_app(Server(methods, LIMITS)), port=0, log_level="error", ws="none")
    socket = config.bind_socket()
    socket.listen()  # so that no test is too early
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    yield socket.getsockname()[1]
    server.should_exit = True
    thread.join()


class User:
    """A browser: it remembers the cookie."""

    def __init__(self, port):
        self.port, self.cookie = port, ""

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, body, {"cookie": self.cookie, **headers})
        response = connection.getresponse()
        content = response.read()
        self.headers = response.headers
        if "set-cookie" in response.headers:
            self.cookie = response.headers["set-cookie"].partition(";")[0]
        connection.close()
        is_json = response.headers["content-type"] == "application/json"
        return response.status, json.loads(content) if is_json else content

    def upload(self, image=None, name="a.png"):
        status, about = self.ask("POST", f"/api/images?name={name}", png(cells() if image is None else image))
        assert status == 200, about
        return f"/api/images/{about['key']}"


@pytest.fixture
def user(port):
    return User(port)


def labels(content):
    colours = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    return colours @ [1, 256, 65536]


def test_a_slider_runs_only_the_decoder(user):
    image = user.upload()
    RUNS.clear()
    counts = {}
    for threshold in (0.5, 0.3, 0.7, 0.99):
        settings = {"foreground_threshold": threshold}
        status, made = user.ask("POST", f"{image}/segment", {"method": "tiny", "settings": settings})
        assert status == 200
        counts[threshold] = (made["areas"], made["network_ran"])
    assert counts == {
        0.5: ([16, 36], True),
        0.3: ([4, 16, 36], False),
        0.7: ([36], False),
        0.99: ([], False),
    }
    assert RUNS == [(40, 50, 1)]
    # A slider that moves back has the first result.
    _, made = user.ask("POST", f"{image}/segment", {"method": "tiny", "settings": {"min_area": 20}})
    assert made["areas"] == [36]
    assert made["classes"] == [{"name": "nucleus", "colour": "#e69f00", "count": "1 cell"}]


def test_outputs_of_few_images_are_stored(user, monkeypatch):
    monkeypatch.setattr(server_module, "OUTPUTS", 2)
    images = [user.upload() for _ in range(3)]
    ran = []
    for index in (0, 1, 0, 2, 0, 1):
        ran.append(user.ask("POST", f"{images[index]}/segment", {"method": "tiny"})[1]["network_ran"])
    assert ran == [True, True, False, True, False, True]


def test_the_page_gets_ids_of_pixels(user):
    image = user.upload()
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    status, content = user.ask("GET", f"{image}/labels.png")
    expected = np.where(cells() == 150, 1, np.where(cells() == 250, 2, 0))
    np.testing.assert_array_equal(labels(content), expected)
    picture = np.asarray(Image.open(io.BytesIO(user.ask("GET", f"{image}/picture.png")[1])))
    assert (status, picture.shape) == (200, (40, 50, 3))


def test_cells_are_corrected_and_corrections_undone(user):
    image = user.upload()
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    for fields, areas in (
        ({"draw": [[40, 2], [44, 2], [44, 4], [40, 4]], "class": 1}, [16, 36, 15]),
        ({"merge": [1, 3], "version": 2}, [31, 36]),
        ({"delete": [2], "version": 3}, [31]),
        ({"undo": True}, [31, 36]),
        ({"undo": True}, [16, 36, 15]),
        ({"undo": True}, [16, 36]),
    ):
        status, made = user.ask("POST", f"{image}/correct", fields)
        assert (status, made["areas"]) == (200, areas)
    assert not made["can_undo"]
    assert made["version"] == 7
    status, made = user.ask("POST", f"{image}/correct", {"undo": True})
    assert (status, made) == (400, {"error": "there is no earlier segmentation to go back to"})


def test_ids_of_an_earlier_segmentation_are_refused(user):
    image = user.upload()
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    changed = {"error": "the cells of a.png have changed in the meantime: load them again"}
    correction = {"delete": [1], "version": 1}
    assert user.ask("POST", f"{image}/correct", correction)[1]["areas"] == [36]
    # A second page, or a key that is held.
    assert user.ask("POST", f"{image}/correct", correction) == (409, changed)
    status, content = user.ask("POST", f"{image}/correct", {"merge": [1, 2]})
    assert (status, content) == (400, {"error": "version is missing: give that of the ids, now 2"})
    assert user.ask("GET", f"{image}/labels.png?version=1") == (409, changed)
    assert labels(user.ask("GET", f"{image}/labels.png?version=2")[1]).max() == 1


def test_undo_restores_the_classes():
    picture = Picture("a.png", b"", np.zeros((4, 4, 1), np.uint8), None)
    two = Segmentation.from_labels(np.array([[1, 0, 2, 2]] * 4), classes=[1, 2])
    picture.change(two, ["background", "nucleus", "debris"])
    picture.change(Segmentation.from_labels(two.labels), ["background", "cell"])
    assert picture.class_names == ["background", "cell"]
    picture.undo()
    assert (picture.segmentation, picture.class_names) == (two, ["background", "nucleus", "debris"])
    # A correction has the classes of what it corrects.
    picture.change(two)
    assert picture.class_names == ["background", "nucleus", "debris"]


def test_an_image_is_removed_once_only():
    workspaces = Workspaces(Limits())
    token, workspace = workspaces.open(None)
    key = workspaces.add(workspace, Picture("a.png", b"", np.zeros((4, 4, 1), np.uint8), None))
    for _ in range(2):
        workspaces.remove(token, key)
    assert not workspace.pictures


def test_exports_are_those_of_predict(user):
    image = user.upload(name="dir/my%20cells.png")
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    status, content = user.ask("GET", f"{image}/exports.zip?formats=labels,csv,ome-zarr,coco")
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert status == 200
    assert {"my cells_labels.tif", "my cells_measurements.csv", "predictions.json"} < set(archive.namelist())
    assert "my cells_cells.ome.zarr/zarr.json" in archive.namelist()
    stored = tifffile.imread(io.BytesIO(archive.read("my cells_labels.tif")))
    np.testing.assert_array_equal(stored, np.where(cells() == 150, 1, np.where(cells() == 250, 2, 0)))


def test_the_data_set_has_the_files_and_the_corrected_cells(user):
    for name in ("a.png", "A.PNG"):
        image = user.upload(name=name)
        user.ask("POST", f"{image}/segment", {"method": "tiny"})
    user.ask("POST", f"{image}/correct", {"delete": [1], "version": 1})
    user.upload()  # not segmented
    status, content = user.ask("GET", "/api/dataset.zip")
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert status == 200
    assert archive.namelist() == ["images/a.png", "images/A_2.PNG", "annotations.json", "README.txt"]
    assert archive.read("images/A_2.PNG") == png(cells())
    content = json.loads(archive.read("annotations.json"))
    assert [one["file_name"] for one in content["images"]] == ["a.png", "A_2.PNG"]
    assert content["categories"] == [{"id": 1, "name": "nucleus"}]
    assert [one["image_id"] for one in content["annotations"]] == [1, 1, 2]
    decoded = coco_mask.decode(content["annotations"][2]["segmentation"])
    np.testing.assert_array_equal(decoded, cells() == 250)


def test_one_request_of_a_program_is_enough_and_leaves_nothing(user):
    path = "/api/segment?method=tiny&name=b.png&formats=labels&foreground_threshold=0.3"
    status, content = user.ask("POST", path, png(cells()))
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert (status, archive.namelist()) == (200, ["b_classes.tif", "b_labels.tif"])
    assert tifffile.imread(io.BytesIO(archive.read("b_labels.tif"))).max() == 3
    assert user.cookie == ""
    assert user.ask("GET", "/api/images") == (200, [])


def test_classical_methods_take_a_diameter(user):
    image = np.zeros((120, 120), np.uint8)
    image[10:40, 10:40] = image[60:100, 50:100] = 200
    path = user.upload(image)
    fields = {"method": "watershed", "diameter": 40, "settings": {"min_area": 50}}
    status, made = user.ask("POST", f"{path}/segment", fields)
    assert (status, made["count"]) == (200, 2)
    _, about = user.ask("GET", "/api/methods?method=watershed")
    assert about["has_diameter"]
    assert [slider["name"] for slider in about["sliders"]][-1] == "min_area"
    _, about = user.ask("GET", "/api/methods?method=tiny")
    assert not about["has_diameter"]
    assert about["sliders"][0]["value"] == 0.5


def test_users_do_not_see_each_other(port):
    first, second = User(port), User(port)
    image = first.upload()
    assert second.ask("GET", "/api/images") == (200, [])
    assert first.cookie != second.cookie
    for method, path in (
        ("GET", "/picture.png"),
        ("GET", "/labels.png"),
        ("GET", "/exports.zip"),
        ("POST", "/segment"),
        ("POST", "/correct"),
        ("DELETE", ""),
    ):
        for other in (second, User(port)):
            status, content = other.ask(method, image + path)
            assert (status, content) == (404, {"error": "there is no such image: upload it again"})
    assert len(first.ask("GET", "/api/images")[1]) == 1
    assert first.ask("DELETE", image) == (200, {})
    assert first.ask("GET", f"{image}/picture.png")[0] == 404


def test_long_names_are_shortened(user):
    image = user.upload(name=f"{'x' * 150}%C3%A4{'y' * 150}.png")
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    status, content = user.ask("GET", f"{image}/exports.zip?formats=labels")
    assert status == 200
    assert f"{'x' * 150}_labels.tif" in zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_uploads_are_bounded(user):
    status, content = user.ask("POST", "/api/images?name=a.png", b"x" * 60_000)
    assert (status, content) == (413, {"error": "the body is larger than 0.0476837 MiB: give a smaller file"})
    status, content = user.ask("POST", "/api/images?name=a.png", png(np.zeros((150, 150), np.uint8)))
    assert status == 400
    assert "more than 20000" in content["error"]
    for _ in range(3):
        user.upload()
    status, content = user.ask("POST", "/api/images?name=a.png", png(cells()))
    assert (status, content) == (400, {"error": "there are 3 images, the most allowed: remove some first"})


WRONG = {
    # Path, body, and words of the error.
    "a text": ("/api/images?name=a.txt", b"text", "a.txt is of an unknown type"),
    "a damaged image": ("/api/images?name=a.png", b"\x89PNG", "a.png cannot be read"),
    "no JSON": ("IMAGE/segment", b"{", "the body is not JSON"),
    "a list": ("IMAGE/segment", b"[]", "not a JSON object"),
    "a method": (
        "IMAGE/segment",
        {"method": "magic"},
        "method='magic' is unknown: choose one of tiny, watershed",
    ),
    "a method of another type": ("IMAGE/segment", {"method": [1]}, "is unknown"),
    "a setting": (
        "IMAGE/segment",
        {"settings": {"h": 1}},
        "tiny has no setting 'h': choose among foreground_thr",
    ),
    "a value": ("IMAGE/segment", {"settings": {"min_area": "x"}}, "min_area is 'x': give a number"),
    "no value": ("IMAGE/segment", b'{"settings": {"min_area": NaN}}', "min_area is nan: give a number"),
    "an endless number": ("/api/segment?min_area=inf", png(cells()), "min_area=inf is not a number"),
    "a range": ("IMAGE/segment", {"settings": {"foreground_threshold": 3}}, "between 0 and 1"),
    "a diameter": ("IMAGE/segment", {"diameter": "wide"}, "diameter is 'wide': give pixels, or auto"),
    "a diameter for a network without": ("IMAGE/segment", {"diameter": 30}, "--diameter is for networks"),
    "a huge value": ("IMAGE/segment", {"settings": {"min_area": 10**400}}, "give a number"),
    "a huge diameter": ("IMAGE/segment", {"diameter": 10**400}, "give pixels, or auto"),
    "a truth value for a diameter": ("IMAGE/segment", {"diameter": True}, "give pixels, or auto"),
    "a huge outline": ("IMAGE/correct", {"draw": [[10**400, 1], [2, 1], [3, 1]]}, "a list of points"),
    "ids": ("IMAGE/correct", {"delete": ["1"], "version": 1}, "a list of integers"),
    "an outline": ("IMAGE/correct", {"draw": [[1], [2]]}, "a list of points"),
    "an endless outline": ("IMAGE/correct", b'{"draw": [[1, NaN], [2, 1], [3, 1]]}', "a list of points"),
    "a class": ("IMAGE/correct", {"draw": [[1, 1], [5, 1], [5, 5]], "class": 2}, "class is 2: give 1 to 1"),
    "nothing": ("IMAGE/correct", {}, "one of the fields delete, merge, draw or undo"),
    "a number": ("/api/segment?min_area=x", png(cells()), "min_area=x is not a number"),
    "a format": ("/api/segment?formats=ctc", png(cells()), "formats names 'ctc': choose among labels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_one_sentence(name, user):
    path, body, message = WRONG[name]
    image = user.upload()
    user.ask("POST", f"{image}/segment", {"method": "tiny"})
    status, content = user.ask("POST", path.replace("IMAGE", image), body)
    assert status == 400
    assert message in content["error"]


def test_other_sites_are_refused_and_the_page_loads_nothing_from_elsewhere(user, port):
    assert user.ask("GET", "/", host="evil.example")[0] == 403
    assert user.ask("POST", "/api/segment", png(cells()), origin="http://evil.example")[0] == 403
    assert user.ask("GET", "/", host="[")[0] == 403
    assert user.ask("GET", "/", origin="http://[x")[0] == 403
    assert user.ask("GET", "/", origin=f"http://127.0.0.1:{port}")[0] == 200
    for path in ("/", "/page.js", "/drawing.js", "/page.css"):
        status, content = user.ask("GET", path)
        assert status == 200
        assert b"http://" not in content
        assert b"https://" not in content
        assert "default-src 'none'" in user.headers["content-security-policy"]
    user.upload()
    assert "HttpOnly" in user.headers["set-cookie"]


def test_idle_users_are_forgotten_and_the_oldest_makes_room(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(workspaces.time, "monotonic", lambda: now[0])
    users = workspaces.Workspaces(Limits(users=2, idle=100))
    first, _ = users.open(None)
    now[0] = 50
    second, _ = users.open(None)
    now[0] = 55
    assert users.find(first) is not None
    now[0] = 60
    third, _ = users.open(None)
    assert [users.find(token) is None for token in (first, second, third)] == [False, True, False]
    now[0] = 165
    users.open(None)
    assert [users.find(token) is None for token in (first, third)] == [True, True]


def test_only_an_upload_makes_a_user(port):
    first = User(port)
    image = first.upload()
    # Programs without a cookie: each of so many users would replace the one that was idle for longest.
    for _ in range(LIMITS.users + 1):
        other = User(port)
        assert other.ask("GET", "/api/images") == (200, [])
        assert other.ask("GET", "/api/dataset.zip")[0] == 400
        assert other.cookie == ""
    assert first.ask("GET", f"{image}/picture.png")[0] == 200


def test_all_images_together_are_bounded():
    # Each image needs 2,000 bytes, and 16,000 for each of two segmentations.
    users = workspaces.Workspaces(Limits(memory=60_000))
    picture = workspaces.Picture("a", b"", np.zeros((40, 50, 1), np.uint8), None)
    users.add(users.open(None)[1], picture)
    for _ in range(5):
        picture.change(Segmentation.empty((40, 50)))
        users.forget_steps(picture)
    assert picture.nbytes == 2000 + 3 * 16_000
    picture.undo()
    with pytest.raises(ValueError, match="fill the memory of the server"):
        users.add(users.open(None)[1], picture)


def test_undo_is_bounded_by_memory(monkeypatch):
    monkeypatch.setattr(workspaces, "STEP_BYTES", 8 * 100 * 3)
    picture = workspaces.Picture("a", b"", np.zeros((10, 10, 1), np.uint8), None)
    for _ in range(6):
        picture.change(Segmentation.empty((10, 10)))
    picture.undo()
    picture.undo()
    assert not picture.can_undo
