"""Cameras of the renderer: projection, distortion, camera files."""

import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.camera import MOUNTS, Camera, distort, draw_camera, load_camera, undistort


def test_projects_hand_made_points():
    camera = Camera((0.0, 0.0, 2.0), (0.0, 0.0, 0.0), fov=90.0)  # looks along -z: +x is on the right of the image
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.5, -0.5, 1.0]], float)
    pixels, depth = camera.project(points, (200, 100))
    assert camera.focal(100) == pytest.approx(50)
    np.testing.assert_allclose(pixels, [[100, 50], [125, 50], [100, 25], [75, 75]], atol=1e-9)
    np.testing.assert_allclose(depth, [2, 2, 2, 1])


def test_roll_turns_the_content_anticlockwise():
    points = np.array([[0, 1.0, 0]])
    turned = Camera((0.0, 0.0, 2.0), (0.0, 0.0, 0.0), fov=90.0, roll=90.0)
    np.testing.assert_allclose(turned.project(points, (100, 100))[0], [[25, 50]], atol=1e-9)


def test_camera_that_looks_straight_down_has_axes():
    axes = Camera((0.0, 1.0, 0.0), (0.0, 0.0, 0.0)).axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


def test_undistort_inverts_distort():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.6, 0.6, (200, 2))
    for coefficients in ((-0.2, 0.0), (0.1, 0.0), (-0.15, 0.02)):
        np.testing.assert_allclose(undistort(distort(points, coefficients), coefficients), points, atol=1e-5)


def test_barrel_pulls_towards_the_middle():
    camera = Camera((0.0, 0.0, 2.0), (0.0, 0.0, 0.0), fov=90.0, distortion=(-0.1, 0.0))
    pixels = camera.project(np.array([[1.0, 0, 0]]), (200, 100))[0]
    assert pixels[0, 0] == pytest.approx(100 + 50 * 0.5 * (1 - 0.1 * 0.25))


def test_mounts_are_drawn_within_their_ranges():
    rng = np.random.default_rng(1)
    for name, mount in MOUNTS.items():
        camera = mount.draw(rng)
        assert camera.name == name and 10 < camera.fov < 140
        assert all(low <= value <= high for (low, high), value in zip(mount.position, camera.position, strict=True))
    assert draw_camera(np.random.default_rng(5)) == draw_camera(np.random.default_rng(5))


def test_reads_a_camera_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("position: [-0.6, [0.5, 0.7], 0.4]\nlook_at: [0, 0.3, 0]\nfov: 60\ndrive: right\n")
    camera = load_camera(path).draw(np.random.default_rng(0))
    assert camera.name == "mine" and camera.drive == "right" and camera.fov == 60 and camera.roll == 0
    assert 0.5 <= camera.position[1] <= 0.7


@pytest.mark.parametrize(
    "text",
    [
        "position: [0, 0, 1]\n",
        "position: [0, 0]\nlook_at: [0, 0, 0]\nfov: 50\n",
        "position: [0, 0, 1]\nlook_at: [0, 0, 0]\nfov: 900\n",
        "position: [0, 0, 1]\nlook_at: [0, 0, 1]\nfov: 50\n",
        "position: [0, 0, 1]\nlook_at: [0, 0, 0]\nfov: 50\ndrive: middle\n",
        "position: [0, 0, 1]\nlook_at: [0, 0, 0]\nfov: 50\nlens: fish\n",
        "position: [0, 0, [2, 1]]\nlook_at: [0, 0, 0]\nfov: 50\n",
        "[",
    ],
)
def test_refuses_a_wrong_camera_file_in_one_line(tmp_path, text):
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(DPoseError) as error:
        load_camera(path)
    assert "camera.yaml" in str(error.value) and "\n" not in str(error.value)
