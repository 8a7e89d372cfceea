"""The answers of the server, as functions of a user and a request."""

from __future__ import annotations

import io
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from segjax.errors import InputError, choose
from segjax.experiment.prediction_inputs import number_of
from segjax.report.overlays import colour_of, to_display_rgb
from segjax.report.page import css
from segjax.serving import corrections
from segjax.serving.downloads import OFFERED, export_data_set, export_files
from segjax.serving.methods import ServedMethod
from segjax.serving.requests import read_diameter, read_ids, read_numbers, read_object, read_outline
from segjax.serving.workspaces import Limits, Picture, Workspaces, read_upload

# Parameters of `segment_once`; all others are settings of the method.
PARAMETERS = ("name", "method", "diameter", "formats")
# Largest number of images whose outputs of a network are stored.
OUTPUTS = 8
Content = tuple[bytes, str] | dict[str, Any] | list[Any]
Answer = tuple[str | None, Content]


class NotFoundError(InputError):
    """The image is not, or no longer, among those of the user."""


class ConflictError(InputError):
    """The request is about a segmentation that is no longer the current one."""


class Server:
    """Makes answers. A method is opened when it is first used, and networks run one after the other.

    Each function takes the token of a user, the query of the address and the body of the request; and it
    returns the token, which is new for a new user, and either bytes with their type or an object for JSON.

    Args:
      methods: by the name of each method, a function that returns it, and opens it at the first call; the
        first one is the default.
      limits: largest sizes and numbers for users.

    Attributes:
      limits: largest sizes and numbers for users.
    """

    def __init__(self, methods: Mapping[str, Callable[[], ServedMethod]], limits: Limits) -> None:
        self.limits = limits
        self._methods = methods
        self._compute, self._opening = threading.Lock(), threading.Lock()
        self._workspaces = Workspaces(limits)
        # The images with stored outputs, the last used at the end; weak, so that removed ones are freed.
        self._recent: list[weakref.ref[Picture]] = []

    def methods(self, token: str | None, query: Mapping[str, str], body: bytes) -> Answer:
        """Returns the methods; with the parameter `method`, the sliders of that one."""
        del body
        content: dict[str, Any] = {
            "methods": [*self._methods],
            "formats": OFFERED,
            "max_upload": self.limits.upload,
        }
        if "method" in query:
            method = self._method(query["method"])
            content["sliders"] = [slider._asdict() for slider in method.sliders]
            content["has_diameter"] = method.has_diameter
        return token, content

    def segment_once(self, token: str | None, query: Mapping[str, str], body: bytes) -> Answer:
        """Segments the image in the body, and returns a zip archive of exports; nothing is stored."""
        name, image, size = read_upload(query.get("name", "image.png"), body, self.limits.pixels)
        picture = Picture(name, b"", image, size)
        method = self._method(query.get("method", next(iter(self._methods))))
        values = read_numbers({field: text for field, text in query.items() if field not in PARAMETERS})
        picture.segment(method, read_diameter(query.get("diameter")), values, self._compute)
        formats = query.get("formats", "labels").split(",")
        return token, (export_files(picture, formats), "application/zip")

    def list_images(self, token: str | None, query: Mapping[str, str], body: bytes) -> Answer:
        """Returns the images of the user."""
        del query, body
        return token, [_about(key, picture) for key, picture in self._pictures(token).items()]

    def upload(self, token: str | None, query: Mapping[str, str], body: bytes) -> Answer:
        """Adds the image in the body, whose name is the parameter `name`."""
        name, image, size = read_upload(query.get("name", ""), body, self.limits.pixels)
        token, workspace = self._workspaces.open(token)
        picture = Picture(name, body, image, size)
        return token, _about(self._workspaces.add(workspace, picture), picture)

    def remove(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Removes an image."""
        del query, body
        self._picture(token, key)
        self._workspaces.remove(token, key)
        return token, {}

    def picture(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Returns an image for display."""
        del query, body
        return token, (_png(to_display_rgb(self._picture(token, key).image)), "image/png")

    def labels(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Returns the ids of the cells: red + 256 green + 65,536 blue; of the `version`, if one is given."""
        del body
        picture = self._picture(token, key)
        version, segmentation = picture.version, picture.segmentation
        if segmentation is None:
            raise NotFoundError(f"{picture.name} is not segmented: segment it first")
        if query.get("version", str(version)) != str(version):
            raise _changed(picture)
        labels = segmentation.labels
        return token, (_png(np.stack([labels >> shift & 255 for shift in (0, 8, 16)], -1)), "image/png")

    def segment(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Segments an image by the fields `method`, `diameter` and `settings`, the moved sliders."""
        del query
        picture, fields = self._picture(token, key), read_object(body)
        method = self._method(fields.get("method", next(iter(self._methods))))
        values = fields.get("settings", {})
        if not isinstance(values, dict):
            raise InputError("settings must be an object, such as {}")
        with picture.lock:
            start = time.perf_counter()
            ran = picture.segment(method, read_diameter(fields.get("diameter")), values, self._compute)
            seconds = time.perf_counter() - start
            self._workspaces.forget_steps(picture)
            self._store(picture)
            return token, _cells(picture) | {"seconds": seconds, "network_ran": ran}

    def correct(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Corrects cells by one of the fields `delete`, `merge`, `draw` (with `class`) or `undo`.

        Ids change with each correction. `delete` and `merge` need the field `version`, that of the
        segmentation to which their ids belong.
        """
        del query
        picture, fields = self._picture(token, key), read_object(body)
        with picture.lock:
            before, _ = picture.segmented()
            if fields.get("version", picture.version) != picture.version:
                raise _changed(picture)
            if ("delete" in fields or "merge" in fields) and "version" not in fields:
                raise InputError(f"version is missing: give that of the ids, now {picture.version}")
            if "delete" in fields:
                picture.change(corrections.delete(before, read_ids(fields["delete"])))
            elif "merge" in fields:
                picture.change(corrections.merge(before, read_ids(fields["merge"])))
            elif "draw" in fields:
                (class_id,) = read_ids([fields.get("class", 1)])
                if not 1 <= class_id < len(picture.class_names):
                    raise InputError(f"class is {class_id}: give 1 to {len(picture.class_names) - 1}")
                picture.change(corrections.draw(before, read_outline(fields["draw"]), class_id))
            elif "undo" in fields:
                picture.undo()
            else:
                raise InputError("a correction needs one of the fields delete, merge, draw or undo")
            self._workspaces.forget_steps(picture)
            return token, _cells(picture)

    def exports(self, token: str | None, query: Mapping[str, str], body: bytes, key: str) -> Answer:
        """Returns a zip archive of the exports in the parameter `formats`."""
        del body
        formats = query.get("formats", "labels,overlay").split(",")
        return token, (export_files(self._picture(token, key), formats), "application/zip")

    def data_set(self, token: str | None, query: Mapping[str, str], body: bytes) -> Answer:
        """Returns a zip archive of all segmented images, as `segjax prepare` takes it."""
        del query, body
        return token, (export_data_set(self._pictures(token).values()), "application/zip")

    def _method(self, name: Any) -> ServedMethod:
        with self._opening:
            method: ServedMethod = choose(self._methods, "method", name)()
            return method

    def _store(self, picture: Picture) -> None:
        """Notes that an image has stored outputs; if too many have, the least recently used loses them."""
        with self._opening:
            others = [other for other in self._recent if other() not in (None, picture)]
            self._recent = [*others, weakref.ref(picture)]
            while len(self._recent) > OUTPUTS:
                oldest = self._recent.pop(0)()
                if oldest is not None:
                    oldest.release()

    def _pictures(self, token: str | None) -> dict[str, Picture]:
        """Returns the images of a user by key, none for an unknown one; uploads do not change the result."""
        workspace = self._workspaces.find(token)
        return {} if workspace is None else workspace.pictures.copy()

    def _picture(self, token: str | None, key: str) -> Picture:
        pictures = self._pictures(token)
        if key not in pictures:
            raise NotFoundError("there is no such image: upload it again")
        return pictures[key]


def _changed(picture: Picture) -> ConflictError:
    return ConflictError(f"the cells of {picture.name} have changed in the meantime: load them again")


def _about(key: str, picture: Picture) -> dict[str, Any]:
    height, width = picture.image.shape[:2]
    about: dict[str, Any] = {"key": key, "name": picture.name, "width": width, "height": height}
    return about | ({} if picture.segmentation is None else _cells(picture))


def _cells(picture: Picture) -> dict[str, Any]:
    """Returns what the page shows of a segmentation; cells are in the order of their ids."""
    segmentation = picture.segmentation
    assert segmentation is not None
    areas = np.bincount(segmentation.labels.ravel(), minlength=segmentation.num_instances + 1)[1:]
    classes = [
        {
            "name": name,
            "colour": css(colour_of(index)),
            "count": number_of(int(np.count_nonzero(segmentation.classes == index)), "cell"),
        }
        for index, name in enumerate(picture.class_names[1:], start=1)
    ]
    return {
        "version": picture.version,
        "count": segmentation.num_instances,
        "classes": classes,
        "class_of": segmentation.classes.tolist(),
        "areas": areas.tolist(),
        "pixel_size": picture.pixel_size,
        "can_undo": picture.can_undo,
    }


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
