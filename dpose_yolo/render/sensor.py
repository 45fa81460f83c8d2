"""The camera's sensor: lens distortion, exposure for the driver, bloom, colour cast, blur, vignette, noise, JPEG."""

from functools import lru_cache

import cv2
import numpy as np

from dpose_yolo.render.camera import Camera, undistort


def wide_camera_scale(camera: Camera, size: tuple[int, int]) -> float:
    """Factor by which an undistorted picture must be wider so that the distorted one has no empty corners."""
    if not any(camera.distortion):
        return 1.0
    width, height = size
    focal = camera.focal(height)
    edge = np.array([[width, height], [width, 0], [0, height]]) / 2 / focal
    return float(np.clip((np.abs(undistort(edge, camera.distortion)).max(0) / edge.max(0)).max(), 1.0, 2.0))


@lru_cache(maxsize=4)
def _lens_map(
    distortion: tuple[float, float], focal: float, size: tuple[int, int], source: tuple[int, int], scale: float
):
    """Maps (H, W) float32 of `cv2.remap` from the distorted image to the undistorted picture of `source` pixels."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    flat = undistort(np.stack([x, y], -1).reshape(-1, 2) / focal, distortion).reshape(height, width, 2) * focal
    pixel = flat / [width * scale, height * scale] * source + np.array(source) / 2 - 0.5
    return pixel[..., 0].astype(np.float32), pixel[..., 1].astype(np.float32)


def through_lens(
    picture: np.ndarray, camera: Camera, size: tuple[int, int], scale: float, nearest: bool = False
) -> np.ndarray:
    """Distort a picture (h, w, ...) that covers `scale` times the image plane, to `size` (width, height)."""
    maps = _lens_map(camera.distortion, camera.focal(size[1]), size, (picture.shape[1], picture.shape[0]), scale)
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(picture, maps[0], maps[1], mode, borderMode=cv2.BORDER_REPLICATE)


def expose(rgb: np.ndarray, driver: np.ndarray, infrared: bool, rng: np.random.Generator) -> np.ndarray:
    """Turn linear light into an image as a cheap camera gives it.

    Args:
        rgb: (H, W, 3) float32 linear light.
        driver: (H, W) bool, the pixels that exposure is set for.
        infrared: grey sensor.
        rng: source of chance.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    uniform = rng.uniform
    height, width = rgb.shape[:2]
    grey = rgb.mean(2)
    bright = float(np.percentile(grey[driver] if driver.any() else grey, 80))
    image = rgb * (np.exp(uniform(np.log(0.09), np.log(0.6))) / max(bright, 1e-4))
    if rng.random() < 0.7:  # bloom around blown-out windows
        over = np.clip(image.max(2) - 1, 0, 1.5)
        image = image + cv2.GaussianBlur(over, (0, 0), uniform(2, 9) * width / 320)[..., None] * uniform(0, 0.5)
    if rng.random() < 0.5:
        image = image * _vignette(height, width, uniform(0.1, 0.5))
    if rng.random() < 0.08:  # rolling exposure: bands of artificial light
        rows = np.arange(height) / height * uniform(10, 60) + uniform(0, 6)
        image = image * (1 + uniform(0.03, 0.12) * np.sin(rows))[:, None, None]
    if infrared:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    else:
        image = image * (_cool(rng) if rng.random() < 0.45 else np.array([uniform(0.75, 1.2), 1, uniform(0.75, 1.25)]))
        mean = image.mean(2, keepdims=True)
        saturation = 0.0 if rng.random() < 0.06 else uniform(0.5, 1.3)
        image = mean + (image - mean) * saturation
    image = np.clip(image, 0, 1) ** (1 / uniform(1.7, 2.6))
    image = (image - 0.5) * uniform(0.85, 1.3) + 0.5 + uniform(-0.05, 0.05)
    image = np.clip(image * 255, 0, 255).astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), max(uniform(0, 1.1) * width / 320, 0.05))
    elif rng.random() < 0.15:
        image = _motion(image, rng)
    noise = uniform(0, 9 if infrared else 7)
    if infrared or rng.random() < 0.4:
        image = image + rng.normal(0, noise, (height, width, 1)).astype(np.float32)
    else:
        image = image + rng.normal(0, noise, image.shape).astype(np.float32)
    image = np.clip(image, 0, 255).astype(np.uint8)[..., ::-1]
    if rng.random() < 0.7:
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(uniform(35, 96))])[1]
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image)


def _cool(rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.uniform(0.62, 0.95), 1, rng.uniform(0.9, 1.1)])


@lru_cache(maxsize=4)
def _radius(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return ((x * x + y * y) / 2)[..., None].astype(np.float32)


def _vignette(height: int, width: int, strength: float) -> np.ndarray:
    return 1 - strength * _radius(height, width)


def _motion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along a random direction, by at most 3 % of the width."""
    length = max(3, int(rng.uniform(0.005, 0.03) * image.shape[1])) | 1
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), length // 2
    for t in np.linspace(-middle, middle, 4 * length):
        kernel[round(middle + t * np.sin(angle)), round(middle + t * np.cos(angle))] = 1
    return cv2.filter2D(image, -1, kernel / kernel.sum())
