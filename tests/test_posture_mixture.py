import warnings

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import PostureMixture
from dpose_yolo.posture.marginal import log_densities
from dpose_yolo.posture.mixture_file import write_state

KEYPOINTS = 8


def planted(poses: int = 1500, postures: int = 6, seed: int = 0):
    """Features of a few postures with a long tail and correlated keypoints, and each pose's posture."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.15, (postures, 2 * KEYPOINTS))
    share = 1.0 / np.arange(1, postures + 1)
    truth = rng.choice(postures, poses, p=share / share.sum())
    loading = rng.normal(0, 0.02, (3, 2 * KEYPOINTS))
    x = centres[truth] + rng.normal(0, 0.02, (poses, 2 * KEYPOINTS)) + rng.normal(size=(poses, 3)) @ loading
    return x.astype(np.float32), truth


def hide(x, share, seed=1):
    hidden = np.random.default_rng(seed).random((len(x), KEYPOINTS)) < share
    return np.where(np.repeat(hidden, 2, axis=1), np.float32(np.nan), x)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_planted_postures_are_found_with_30_percent_of_keypoints_missing(covariance_type):
    x, truth = planted()
    mixture = PostureMixture(6, covariance_type=covariance_type).fit(hide(x, 0.3))
    assert adjusted_rand_score(truth, mixture.predict(hide(x, 0.3))) >= 0.95
    share = np.sort(np.bincount(truth))[::-1] / len(truth)
    np.testing.assert_allclose(mixture.weights_, share, atol=0.03)
    assert mixture.converged_


def test_a_missing_ankle_does_not_make_a_posture():
    x, truth = planted(2000, 4, seed=3)
    unseen = np.random.default_rng(2).random(len(x)) < 0.5
    x[unseen, -4:] = np.nan  # two keypoints are missing together in half of the poses
    labels = PostureMixture(4).fit(x).predict(x)
    assert adjusted_rand_score(truth, labels) >= 0.98
    table = np.array([[np.sum((labels == c) & (unseen == u)) for u in (False, True)] for c in range(4)])
    np.testing.assert_allclose(table[:, 1] / table.sum(1), 0.5, atol=0.12)  # in every cluster about half


def test_imputed_keypoints_keep_their_variance():
    x, _ = planted(3000, 1)
    full = PostureMixture(1, reg_covar=1e-6).fit(x).covariances_[0]
    gappy = PostureMixture(1, reg_covar=1e-6).fit(hide(x, 0.4)).covariances_[0]
    np.testing.assert_allclose(np.diag(gappy), np.diag(full), rtol=0.12)


def test_auto_finds_the_planted_number_and_keeps_the_curve():
    x, truth = planted(800, 5, seed=4)
    mixture = PostureMixture("auto", component_range=(2, 8), n_init=2, imputation_rounds=3).fit(hide(x, 0.1))
    assert abs(mixture.n_components_ - 5) <= 1
    assert min(mixture.bic_curve_, key=mixture.bic_curve_.get) in (4, 5, 6)
    assert {2, 4, 5, 6, 8} <= set(mixture.bic_curve_) and list(mixture.bic_curve_) == sorted(mixture.bic_curve_)
    assert adjusted_rand_score(truth, mixture.predict(x)) > 0.9
    np.testing.assert_allclose(mixture.bic(hide(x, 0.1)), min(mixture.bic_curve_.values()), rtol=1e-9)


def test_auto_gives_the_mixture_that_its_number_gives():
    x, _ = planted(600, 3, seed=4)
    auto = PostureMixture("auto", component_range=(2, 4), n_init=1).fit(x)
    best = min(auto.bic_curve_, key=auto.bic_curve_.get)
    np.testing.assert_array_equal(auto.means_, PostureMixture(best, n_init=1).fit(x).means_)


def test_the_same_seed_gives_the_same_mixture_and_another_seed_does_not():
    x, _ = planted(600)
    x = hide(x, 0.3)
    one, two = PostureMixture(5, random_state=7).fit(x), PostureMixture(5, random_state=7).fit(x)
    np.testing.assert_array_equal(one.predict_proba(x), two.predict_proba(x))
    other = PostureMixture(5, random_state=8).fit(x)
    assert not np.array_equal(one.means_, other.means_)


def test_responsibilities_follow_bayes_and_an_unseen_pose_gets_the_mixing_weights():
    x, _ = planted(600)
    x = hide(x, 0.3)
    x[0] = np.nan
    mixture = PostureMixture(4).fit(x)
    resp = mixture.predict_proba(x)
    np.testing.assert_allclose(resp.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(resp[0], mixture.weights_)
    scores = mixture.score_samples(x)
    assert scores[0] == 0.0 and np.isfinite(scores).all()
    # Bayes: joint density = score + log responsibility; the ratio of two components is that of weighted densities
    joint = log_densities(x, mixture.means_, mixture.covariances_) + np.log(mixture.weights_)
    sure = resp[1:] > 1e-200
    np.testing.assert_allclose((scores[1:, None] + np.log(resp[1:] + 1e-300))[sure], joint[1:][sure], atol=1e-7)


def test_a_keypoint_that_is_hardly_ever_labelled_is_left_out():
    x, truth = planted()
    x[40:, 4:6] = np.nan  # keypoint 2: 40 of 1500 poses
    mixture = PostureMixture(6).fit(x)
    assert mixture.left_out_ == [2] and mixture.means_.shape == (6, 2 * KEYPOINTS - 2)
    assert adjusted_rand_score(truth, mixture.predict(x)) >= 0.95
    only_it = np.full((1, 2 * KEYPOINTS), np.nan)
    only_it[0, 4:6] = 0.3
    np.testing.assert_array_equal(mixture.predict_proba(only_it)[0], mixture.weights_)


def test_the_fit_uses_a_sample_and_the_responsibilities_all_poses():
    x, truth = planted(3000)
    mixture = PostureMixture(6, max_fit=800).fit(x)
    assert mixture.n_fit_ == 800 and mixture.predict_proba(x).shape == (3000, 6)
    assert adjusted_rand_score(truth, mixture.predict(x)) >= 0.95


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_identical_poses_do_not_crash(covariance_type):
    x = np.tile(np.linspace(-0.4, 0.4, 2 * KEYPOINTS), (50, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and nothing is spewed
        mixture = PostureMixture(4, covariance_type=covariance_type).fit(x)
    assert 1 <= mixture.n_components_ <= 4
    np.testing.assert_allclose(mixture.weights_.sum(), 1)
    assert np.isfinite(mixture.predict_proba(x)).all() and np.isfinite(mixture.score_samples(x)).all()


def test_as_many_clusters_as_poses_and_a_single_pose():
    x, _ = planted(5)
    assert np.isfinite(PostureMixture(5).fit(x).predict_proba(x)).all()
    np.testing.assert_array_equal(PostureMixture(1).fit(x[:1]).predict_proba(x), 1)
    assert PostureMixture("auto").fit(x[:1]).n_components_ == 1


def test_save_and_load_are_equal_to_the_bit(tmp_path):
    x, _ = planted(600)
    x = hide(x, 0.3)
    x[:, 2:4] = np.nan
    for covariance_type in ("full", "tied"):
        mixture = PostureMixture("auto", component_range=(2, 3), covariance_type=covariance_type).fit(x)
        path = tmp_path / "mixture.npz"
        mixture.save(path, key="abc", keypoint_names=["nose", "eye"])
        loaded = PostureMixture.load(path)
        np.testing.assert_array_equal(loaded.predict_proba(x), mixture.predict_proba(x))
        np.testing.assert_array_equal(loaded.score_samples(x), mixture.score_samples(x))
        assert loaded.get_params() == mixture.get_params() and loaded.bic_curve_ == mixture.bic_curve_
        assert loaded.left_out_ == mixture.left_out_ == [1]
        assert (loaded.key_, loaded.keypoint_names_) == ("abc", ("nose", "eye"))
        again = tmp_path / "again.npz"
        loaded.save(again, key="abc", keypoint_names=["nose", "eye"])
        assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.npz", "mixture.npz"]  # no temporary file stays


def test_broken_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "mixture.npz"
    with pytest.raises(DPoseError, match="there is no posture mixture at"):
        PostureMixture.load(path)
    x, _ = planted(100)
    PostureMixture(2).fit(x).save(path)
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, a=np.ones(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, meta=np.array([{"format": "x"}], dtype=object))
    for content in (b"", b"hello", whole[: len(whole) // 2], foreign.read_bytes(), pickled.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DPoseError, match=r"broken or no posture mixture: delete it and fit again"):
            PostureMixture.load(path)
    write_state(path, {"version": 99}, {})
    with pytest.raises(DPoseError, match="version 99"):
        PostureMixture.load(path)
    write_state(path, {"params": {}}, {})
    with pytest.raises(DPoseError, match="not a usable posture mixture"):
        PostureMixture.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    x, _ = planted(100)
    mixture = PostureMixture(2).fit(x)
    path = tmp_path / "mixture.npz"
    mixture.save(path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(DPoseError, match="No space left on device"):
        mixture.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["mixture.npz"]


def test_bad_input_is_told_in_one_line():
    x, _ = planted(100)
    few = np.full((20, 2 * KEYPOINTS), np.nan)
    few[:9] = x[:9]
    with pytest.raises(DPoseError) as told:
        PostureMixture(16).fit(few, source="train of cabin.yaml")
    assert str(told.value) == (
        "clusters=16 but only 9 poses with labelled keypoints in train of cabin.yaml: set clusters to at most 9 or auto"
    )
    with pytest.raises(DPoseError, match=r"no keypoint is labelled .* visibility flags"):
        PostureMixture(2).fit(np.full((20, 4), np.nan))
    with pytest.raises(DPoseError, match="no poses in the data"):
        PostureMixture(2).fit(np.zeros((0, 4)))
    with pytest.raises(DPoseError, match=r"expected \(poses, 2 x keypoints\)"):
        PostureMixture(2).fit(np.zeros((10, 5)))
    infinite = x.copy()
    infinite[7, 3] = np.inf
    with pytest.raises(DPoseError, match="pose 7 of the data has an infinite coordinate"):
        PostureMixture(2).fit(infinite)
    with pytest.raises(DPoseError, match="not fitted"):
        PostureMixture(2).predict(x)
    with pytest.raises(DPoseError, match="features have 4 columns but the mixture was fitted on 16"):
        PostureMixture(2).fit(x).predict(x[:, :4])


@pytest.mark.parametrize(
    "params",
    [
        {"n_components": 0},
        {"n_components": "many"},
        {"n_components": 2.5},
        {"covariance_type": "round"},
        {"reg_covar": 0.0},
        {"component_range": (5, 2)},
        {"min_labelled": 1.5},
        {"max_fit": 0},
        {"max_fit": 10},
        {"tol": "low"},
        {"n_init": 0},
        {"random_state": -1},
        {"imputation_rounds": -1},
    ],
)
def test_bad_parameters_are_named(params):
    with pytest.raises(DPoseError, match=next(iter(params))):
        PostureMixture(**params).fit(planted(50)[0])


def test_a_pose_without_anything_observed_is_assigned_to_no_cluster():
    x, _ = planted(400)
    mixture = PostureMixture(3, random_state=0).fit(x)
    shown = x[:5].copy()
    shown[2] = np.nan
    assert mixture.assign(shown).tolist() == [*mixture.predict(x[:2]), -1, *mixture.predict(x[3:5])]
