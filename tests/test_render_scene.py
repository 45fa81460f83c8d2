"""Rendered scenes: labels, visibility against rays, determinism, every posture. They use the CC0 fallback."""

import subprocess
import sys

import numpy as np
import pytest
from render_scenes import cast, even_light, needs_assets, needs_gl, rays_of

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.assets import load_assets
from dpose_yolo.render.camera import MOUNTS, Camera
from dpose_yolo.render.composition import FLIP, compose, mirror_labels
from dpose_yolo.render.gl import Rasterizer
from dpose_yolo.render.meshes import CABIN, DRIVER, Material, rounded_box
from dpose_yolo.render.scene import POSTURES, Renderer, SceneSpec, build, draw_labels
from dpose_yolo.render.solver import solve_keypoints

SIZE = (64, 48)
both = lambda test: needs_assets(needs_gl(test))  # noqa: E731


def spec(seed=0, posture="safe_driving", **options):
    return SceneSpec(seed, posture, **{"size": SIZE, "licence": "cc0", **options})


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as made:
        yield made


@needs_gl
def test_buffers_of_a_hand_made_scene_equal_rays():
    grey = Material((0.5, 0.5, 0.5))
    meshes = [
        rounded_box([0, 0, 0], (0.3, 0.3, 0.3), grey, roundness=1.0, identity=DRIVER),
        rounded_box([0.1, 0.1, 0.6], (0.1, 0.2, 0.05), grey, identity=CABIN),
    ]
    camera = Camera((0.3, 0.2, 2.0), (0.0, 0.0, 0.0), fov=40.0, roll=10.0)
    rasterizer = Rasterizer()
    colour, identity, depth = rasterizer.draw(meshes, camera, SIZE, even_light())
    rasterizer.close()
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = rays_of(camera, np.stack([x.ravel(), y.ravel()], 1), SIZE)
    far, owner = cast(np.array(camera.position), rays, meshes)
    same = owner.reshape(identity.shape) == identity
    assert same.mean() > 0.995 and set(np.unique(identity)) == {CABIN, DRIVER}
    hit = np.isfinite(far).reshape(identity.shape) & same & (identity == DRIVER)
    np.testing.assert_allclose(depth[hit], far.reshape(depth.shape)[hit], atol=2e-3)
    assert colour[hit].mean() > 0.1


@both
def test_visibility_equals_rays(renderer):
    """A keypoint's flag from the buffers is what rays through its disc say, up to discs that lie on an edge."""
    assets, agreed, number = load_assets("cc0"), 0, 0
    for seed, posture in enumerate(("phone_right", "reading", "radio")):
        wanted = spec(seed, posture, camera=MOUNTS["dashboard"], size=(96, 72))
        composition = compose(wanted, assets)
        meshes, light, _ = build(composition, wanted, assets)
        camera = composition.camera
        plain = Camera(camera.position, camera.look_at, camera.roll, camera.fov)
        composition.camera = plain
        picture = renderer.draw(plain, meshes, light, wanted.size)
        large = (2 * wanted.size[0], 2 * wanted.size[1])
        pixels, _ = plain.project(composition.points, large)
        inside = ((pixels >= 1) & (pixels < np.array(large) - 1)).all(1)
        centres = np.floor(pixels[inside]) + 0.5
        far, owner = cast(np.array(plain.position), rays_of(plain, centres, large), meshes)
        at = centres.astype(int)
        agreed += (picture.fine[at[:, 1], at[:, 0]] == np.where(np.isfinite(far), owner, 0)).sum()
        hit = np.isfinite(far) & (picture.fine[at[:, 1], at[:, 0]] == owner)
        close = abs(picture.depth[at[:, 1], at[:, 0]] - far)[hit] < 5e-3
        number += len(far)
        assert close.mean() > 0.9
    assert agreed / number > 0.93


@both
@pytest.mark.parametrize("posture", POSTURES)
def test_every_posture_renders(renderer, posture):
    sample = renderer.render(spec(11, posture, look="mixed"))
    assert sample.image.shape == (SIZE[1], SIZE[0], 3) and sample.image.dtype == np.uint8
    assert np.isfinite(sample.keypoints).all() and set(np.unique(sample.keypoints[:, 2])) <= {0, 1, 2}
    inside = sample.keypoints[sample.keypoints[:, 2] > 0, :2]
    assert (inside >= 0).all() and (inside < SIZE).all() and len(inside) >= 6
    x1, y1, x2, y2 = sample.box
    assert 0 <= x1 < x2 <= SIZE[0] and 0 <= y1 < y2 <= SIZE[1]
    assert sample.about["posture"] == posture and set(sample.about["items"].values()) == {"CC0-1.0"}


@both
def test_same_seed_gives_the_same_sample(renderer):
    first = renderer.render(spec(5))
    with Renderer() as other:
        other.render(spec(6))  # what was rendered before does not matter
        second = other.render(spec(5))
        third = renderer.render(spec(5))  # while another renderer is open
    np.testing.assert_array_equal(first.image, third.image)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(first.box, second.box)


@both
def test_drawn_labels_are_those_of_the_rendered_sample(renderer):
    for seed in range(6):  # both sides of the car and all mounts come up
        sample = renderer.render(spec(seed, "texting_left"))
        keypoints, box, about = draw_labels(spec(seed, "texting_left"))
        np.testing.assert_allclose(sample.keypoints[:, :2], keypoints[:, :2], atol=1e-6)
        np.testing.assert_array_equal(sample.keypoints[:, 2] > 0, keypoints[:, 2] > 0)
        assert about["side"] == sample.about["side"]
        # the cabin may hide a part of the body; hair and cloth may stand out from it
        assert (sample.box[:2] > box[:2] - 8).all() and (sample.box[2:] < box[2:] + 8).all()


@needs_assets
def test_both_sides_of_the_car_are_drawn():
    sides = [draw_labels(spec(seed))[2]["side"] for seed in range(30)]
    assert set(sides) == {"left", "right"}
    labels = np.column_stack([np.arange(17.0), np.arange(17.0), np.full(17, 2)])
    mirrored, box = mirror_labels(labels, np.array([1.0, 2, 5, 6]), 20)
    np.testing.assert_array_equal(mirrored[:, 1], FLIP)
    np.testing.assert_array_equal(mirrored[0], [20, 0, 2])
    np.testing.assert_array_equal(box, [15, 2, 19, 6])


@needs_assets
@pytest.mark.parametrize(
    ("posture", "hand", "other"),
    [("phone_right", 10, 4), ("phone_left", 9, 3), ("drinking_bottle", 10, 0), ("hair_makeup", 10, 0)],
)
def test_hand_is_at_the_head(posture, hand, other):
    assets = load_assets("cc0")
    for seed in range(8):
        composition = compose(spec(seed, posture, camera=Camera((-0.9, 0.7, 0.4), (0, 0.3, 0), drive="left")), assets)
        assert np.linalg.norm(composition.points[hand] - composition.points[other]) < 0.3


@needs_assets
def test_body_is_seated_at_the_h_point_with_limbs_of_their_length():
    assets = load_assets("cc0")
    for seed, posture in enumerate(POSTURES):
        body = compose(spec(seed, posture), assets).body
        points = body.keypoints()
        np.testing.assert_allclose((points[11] + points[12]) / 2, 0, atol=1e-9)
        for low, high, bones in (
            (0.2, 0.4, ((5, 7), (6, 8))),
            (0.17, 0.36, ((7, 9), (8, 10))),
            (0.3, 0.55, ((11, 13), (12, 14))),
        ):
            for a, b in bones:
                assert low < np.linalg.norm(points[a] - points[b]) < high, (posture, a, b)


@needs_assets
def test_solver_shows_a_pose_of_another_person():
    camera = Camera((-0.9, 0.7, 0.4), (0.0, 0.3, 0.0), fov=60.0, drive="left")
    assets, size = load_assets("cc0"), (320, 240)
    wanted, box, _ = draw_labels(spec(2, "phone_right", camera=camera, size=size))
    target = wanted.copy()
    target[:, :2] = (wanted[:, :2] - box[:2]) / (box[2:] - box[:2])
    start = compose(spec(3, "safe_driving", camera=camera, size=size), assets, fingers=False)
    _, _, error = solve_keypoints(target, camera, start.body, start.pose, size, evaluations=10)
    assert error < 0.05
    keypoints, box, _ = draw_labels(spec(4, "phone_right", camera=camera, size=size, target=target))
    shown = (keypoints[:, :2] - box[:2]) / (box[2:] - box[:2])
    both_in = (keypoints[:, 2] > 0) & (target[:, 2] > 0)
    assert np.linalg.norm(shown - target[:, :2], axis=1)[both_in].mean() < 0.08


@needs_assets
def test_impossible_wishes_are_refused_in_one_line():
    away = Camera((-0.9, 0.7, 0.4), (-3.0, 0.3, 0.0), name="away")
    target = np.column_stack([np.random.default_rng(0).uniform(0, 1, (17, 2)), np.full(17, 2)])
    wrong = [
        spec(0, camera=away),
        spec(0, "phone_lft"),
        spec(0, look="sepia"),
        spec(0, size=(8, 8)),
        spec(0, licence="mine"),
        spec(0, target=target),
        spec(0, target=np.zeros((17, 3))),
        spec(0, target=np.zeros((5, 3))),
        spec(0, camera="dashboard"),
    ]
    for wish in wrong:
        with pytest.raises(DPoseError) as error:
            draw_labels(wish)
        assert "\n" not in str(error.value)


def test_missing_opengl_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(DPoseError, match=r"dpose_yolo\[render\]"):
        Rasterizer()


def test_missing_egl_names_the_packages(monkeypatch):
    moderngl = pytest.importorskip("moderngl")

    def refuse(**options):
        raise Exception("libEGL.so not loaded\nmore")

    monkeypatch.setattr(moderngl, "create_context", refuse)
    with pytest.raises(DPoseError, match="libegl1 and libgl1-mesa-dri") as error:
        Rasterizer()
    assert "\n" not in str(error.value)


@both
def test_face_is_whole(renderer):
    """Before a camera in front, nose and eyes are seen, and the surface lies where the keypoints are."""
    camera = Camera((0.0, 0.6, 0.8), (0.0, 0.6, 0.0), fov=45.0, drive="left")
    for seed in range(4):
        wanted = spec(seed, "looking_around", camera=camera, size=(160, 120))
        composition = compose(wanted, load_assets("cc0"))
        if abs(composition.pose.yaw) > 35 or abs(composition.pose.pitch) > 20:
            continue
        meshes, light, _ = build(composition, wanted, load_assets("cc0"), 2)
        picture = renderer.draw(camera, meshes, light, wanted.size)
        pixels, depth = camera.project(composition.points[:3], (320, 240))
        for (x, y), distance in zip(pixels.astype(int), depth, strict=True):
            assert picture.fine[y, x] == DRIVER
            assert abs(picture.depth[y, x] - distance) < 0.035


@needs_gl
def test_triton_can_be_loaded_after_rendering():
    pytest.importorskip("triton")
    code = "from dpose_yolo.render.gl import Rasterizer; r = Rasterizer(); import triton; r.close(); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-500:]
