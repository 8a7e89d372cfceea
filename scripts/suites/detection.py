"""Benchmark of RoIAlign, NMS and Mask R-CNN against torchvision on the same device."""

from collections.abc import Callable
from typing import Any

from segjax.errors import InputError
from suites.network import descent, device, mixed, wait
from suites.timing import measure, print_hardware

CLASSES = 2
Calls = dict[str, Callable[[], Any]]


def main(*, size: int, batch: int, rounds: int) -> None:
    """Times the operations and the network and prints a table."""
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise InputError('the detection suite needs torchvision: pip install -e ".[peers]"') from error
    print_hardware()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {batch} x {size} x {size}\n")
    print("| | segjax | torchvision | torchvision's time / segjax's |")
    print("|---|---|---|---|")
    for title, calls in (*align(size, batch), *suppression(), *network(size, batch)):
        seconds = measure(calls, rounds)
        segjax, torch_ = 1e3 * seconds["segjax"], 1e3 * seconds["torch"]
        print(f"| {title} | {segjax:.1f} ms | {torch_:.1f} ms | {torch_ / segjax:.2f} |", flush=True)
    few, many = (f"{count} objects in each image" for count in (50, 1000))
    seconds = measure({few: step_with(50, size), many: step_with(1000, size)}, rounds)
    print(f"\ntraining step with {many} over {few}: {seconds[many] / seconds[few]:.2f}")


def cells(count: int, size: int, seed: int = 0) -> Any:
    """Returns random cell boxes, [count, 4] float32."""
    import numpy as np

    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(0, size, (count, 2)), np.exp(rng.uniform(1.5, 4.5, (count, 2)))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return boxes.clip(0, size).astype(np.float32)


def align(size: int, batch: int) -> list[tuple[str, Calls]]:
    """Returns calls of RoIAlign with 512 RoIs per image, stride 4 and 256 channels."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch
    from torchvision.ops import roi_align as torch_align

    from segjax.ops.roi_align import roi_align

    rng = np.random.default_rng(0)
    features = rng.normal(size=(batch, size // 4, size // 4, 256)).astype(np.float32)
    boxes = np.stack([cells(512, size, seed) for seed in range(batch)])
    pool = jax.vmap(lambda f, b: roi_align(f, b, bins=7, scale=0.25, sampling_ratio=2))
    forward = jax.jit(pool)
    both = jax.jit(jax.grad(lambda f, b: jnp.sum(pool(f, b) ** 2)))
    arguments = jax.device_put(features), jax.device_put(boxes)
    torch_features = torch.from_numpy(features).permute(0, 3, 1, 2).contiguous().to(device()).requires_grad_()
    rois = [torch.from_numpy(part).to(device()) for part in boxes]

    def torch_forward() -> Any:
        with torch.no_grad():
            return wait(torch_align(torch_features, rois, 7, 0.25, 2))

    def torch_both() -> Any:
        torch_features.grad = None
        (torch_align(torch_features, rois, 7, 0.25, 2) ** 2).sum().backward()
        return wait()

    title = f"RoIAlign, {batch} x 512 RoIs"
    return [
        (
            f"{title}, forward",
            {"segjax": lambda: jax.block_until_ready(forward(*arguments)), "torch": torch_forward},
        ),
        (
            f"{title}, forward and backward",
            {"segjax": lambda: jax.block_until_ready(both(*arguments)), "torch": torch_both},
        ),
    ]


def suppression() -> list[tuple[str, Calls]]:
    """Returns calls of non-maximum suppression of 2000 boxes in each of eight images."""
    import jax
    import numpy as np
    import torch
    from torchvision.ops import nms as torch_nms

    from segjax.ops.nms import nms

    boxes = np.stack([cells(2000, 1024, seed) for seed in range(8)])
    scores = np.random.default_rng(0).random((8, 2000), np.float32)
    valid = np.ones((8, 2000), bool)
    suppress = jax.jit(jax.vmap(lambda b, s, v: nms(b, s, v, iou_threshold=0.5)))
    arguments = [jax.device_put(x) for x in (boxes, scores, valid)]
    torch_arguments = [torch.from_numpy(x).to(device()) for x in (boxes, scores)]

    def torch_suppress() -> Any:
        return wait([torch_nms(b, s, 0.5) for b, s in zip(*torch_arguments, strict=True)])

    return [
        (
            "suppression, 8 x 2000 boxes",
            {"segjax": lambda: jax.block_until_ready(suppress(*arguments)), "torch": torch_suppress},
        )
    ]


def mask_rcnn(dtype: str = "float32") -> tuple[Any, Any]:
    """Returns the task of torchvision's Mask R-CNN in segjax, and its parameters."""
    import jax
    import numpy as np

    from segjax.models.detectors import create_detector
    from segjax.models.weights.detectors import DETECTORS
    from segjax.ops.detection import DetectConfig
    from segjax.tasks.detection import DetectionTask
    from segjax.tasks.detection_config import DetectionConfig, SamplingConfig

    model = create_detector(**DETECTORS["maskrcnn_resnet50_fpn"], classes=CLASSES, dtype=dtype)
    config = DetectionConfig(
        rois=SamplingConfig(batch_size=512), detect=DetectConfig(score_threshold=0.05, max_detections=100)
    )
    task = DetectionTask(model, CLASSES, config)
    params = jax.jit(task.init)(jax.random.key(0), {"image": np.zeros((1, 64, 64, 3), np.float32)})
    return task, params


def training_batch(count: int, size: int, batch: int) -> dict[str, Any]:
    """Returns a batch of images with `count` rectangular cells each."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.zeros((batch, size, size), np.int32)
    for image in labels:
        for index, (x0, y0, x1, y1) in enumerate(cells(count, size).astype(int), start=1):
            image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = index
    return {
        "image": rng.random((batch, size, size, 3), np.float32),
        "labels": labels,
        "semantic": (labels > 0).astype(np.int32),
        "classes": np.ones((batch, 1000), np.int32),
    }


def step_with(count: int, size: int) -> Callable[[], Any]:
    """Returns a training step on one image with `count` objects; the capacity is fixed."""
    import jax

    task, params = mask_rcnn()
    data = jax.device_put(training_batch(count, size, 1))
    step = jax.jit(descent(task, jax.random.key(0)))
    return lambda: jax.block_until_ready(step(params, data))


def network(size: int, batch: int, dtype: str = "float32") -> list[tuple[str, Calls]]:
    """Returns calls of inference and of training steps of Mask R-CNN with ResNet50-FPN."""
    import jax
    import torchvision

    task, params = mask_rcnn(dtype)
    predict, step = jax.jit(task.predict), jax.jit(descent(task, jax.random.key(0)))
    net = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=size, max_size=size
    ).to(device())
    title = f"Mask R-CNN, ResNet50-FPN, {batch} x {size} x {size}"

    def blocked(function: Callable[..., Any], data: Any) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(function(params, data))

    few, many = (jax.device_put(training_batch(count, size, batch)) for count in (50, 500))
    infer = {"segjax": blocked(predict, few["image"]), "torch": torch_inference(net, few, dtype)}
    rows: list[tuple[str, Calls]] = [(f"{title}, inference", infer)]
    # torchvision computes masks of positive RoIs only: few while the RPN is untrained, and all if there are
    # many objects. segjax always computes as many as there can be.
    for name, data in (("50 objects", few), ("500 objects", many)):
        calls = {"segjax": blocked(step, data), "torch": torch_step(net, data, dtype)}
        rows.append((f"{title}, training step, {name}", calls))
    return rows


def torch_images(data: Any) -> list[Any]:
    """Returns the images of a batch as torch's detectors take them."""
    import numpy as np
    import torch

    return [torch.from_numpy(np.array(x)).permute(2, 0, 1).contiguous().to(device()) for x in data["image"]]


def torch_inference(net: Any, data: Any, dtype: str) -> Callable[[], Any]:
    """Returns a call of torchvision's inference."""
    import torch

    images = torch_images(data)

    def infer() -> Any:
        net.eval()
        with torch.inference_mode(), mixed(dtype):
            return wait(net(images))

    return infer


def torch_step(net: Any, data: Any, dtype: str) -> Callable[[], Any]:
    """Returns a call of torchvision's training step, by gradient descent."""
    import numpy as np
    import torch
    import torchvision

    images, targets = torch_images(data), []
    for labels in np.asarray(data["labels"]):
        ids = np.unique(labels[labels > 0])
        masks = torch.from_numpy(np.stack([labels == index for index in ids]).astype(np.uint8))
        boxes = torchvision.ops.masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1])
        target = {"boxes": boxes, "labels": torch.ones(len(ids), dtype=torch.int64), "masks": masks}
        targets.append({name: value.to(device()) for name, value in target.items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)

    def train() -> Any:
        net.train()
        optimizer.zero_grad()
        with mixed(dtype):
            losses = net(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
        return wait()

    return train
