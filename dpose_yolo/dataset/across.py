"""What shows only when images are held against each other: duplicates, subjects, labels without image, gaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import label_folders, part_images, shown, walk
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.hashes import groups_of_equals, nearest, text_hash
from dpose_yolo.dataset.images import likeness
from dpose_yolo.dataset.index import AMBIGUOUS, Index
from dpose_yolo.dataset.scan import Scan
from dpose_yolo.keypoints import partners

NEAR_BITS = 10  # of 64: pairs this near are compared pixel by pixel
NEAR_GREY = 6.0  # mean difference in grey levels below which two pictures are the same one
LISTED = 3  # files that a finding about many names


def image_paths(card: Card, found: Scan, wanted: set[int]) -> dict[int, str]:
    """Paths of some images: only hashes are kept of them, so the folders are listed again."""
    if not wanted:
        return {}
    by_hash = {(found.part[i], found.path[i]): i for i in wanted}
    paths: dict[int, str] = {}
    for number, part in enumerate(found.parts):
        for image in part_images(card, part):
            i = by_hash.get((number, text_hash(image)))
            if i is not None:
                paths[i] = image
    return paths


def duplicates(card: Card, found: Scan, findings: Findings) -> None:
    """Equal files in one part and in two, then pictures in two parts that look the same."""
    part, content = np.frombuffer(found.part, np.uint8), np.frombuffer(found.content, np.uint64)
    pairs: list[tuple[str, int, int, str]] = []  # kind, the image told of, the other, what
    known = np.flatnonzero(content)
    groups = [known[group] for group in groups_of_equals(content[known])]
    del known
    names = image_paths(card, found, {int(i) for group in groups for i in group})
    for group in groups:  # by part and name: the file system's order is nobody's choice
        members = sorted((int(i) for i in group if int(i) in names), key=lambda i: (part[i], names[i]))
        last = [i for i in members if part[i] == part[members[-1]]] if members else []
        for i in members[1:]:
            own = next(m for m in members if part[m] == part[i])
            if own == i:
                pairs.append(("duplicate_across", i, members[0], "the same bytes as"))
            else:
                pairs.append(("duplicate", i, own, "the same bytes as"))
        for i in members:  # the latest part keeps one copy: evaluation stays what it was
            found.left_out[i] = max(found.left_out[i], int(i != last[0]))
    pairs += _alike(card, found, part, content)
    paths = image_paths(card, found, {i for _, a, b, _ in pairs for i in (a, b)})
    for kind, i, other, text in pairs:
        if i in paths and other in paths:
            what = f"{text} {shown(paths[other], card.root)} of the {found.parts[found.part[other]]} part"
            sound = paths[i] if found.width[i] else ""
            findings.add(Finding(kind, found.parts[found.part[i]], shown(paths[i], card.root), what, None, sound))


def _alike(card: Card, found: Scan, part: np.ndarray, content: np.ndarray) -> list[tuple[str, int, int, str]]:
    """Pairs of nearly equal pictures of different bytes, each image of a later part with the likest of earlier ones."""
    hashes = np.frombuffer(found.look, np.uint64)
    candidates: list[tuple[int, int]] = []
    for number in range(1, len(found.parts)):
        queries = np.flatnonzero((part == number) & (hashes != 0))
        pool = np.flatnonzero((part < number) & (hashes != 0))
        if not len(queries) or not len(pool):
            continue
        where, bits = nearest(hashes[queries], hashes[pool])
        near = bits <= NEAR_BITS
        candidates += zip(queries[near].tolist(), pool[where[near]].tolist(), strict=True)
    candidates = [(i, j) for i, j in candidates if content[i] != content[j]]
    paths = image_paths(card, found, {i for pair in candidates for i in pair})
    pairs = []
    for i, j in candidates:
        if i not in paths or j not in paths:
            continue
        grey = likeness(paths[i], paths[j])
        if grey < NEAR_GREY:
            pairs.append(("near_duplicate_across", i, j, f"differs by {grey:.1f} of 255 grey levels from"))
            found.left_out[j] = 1
    return pairs


def shared_labels(card: Card, found: Scan, findings: Findings) -> None:
    """Images of one name and different suffixes: the engine gives both the same label."""
    stems, paths = np.frombuffer(found.stem, np.uint64), np.frombuffer(found.path, np.uint64)
    groups = [g for g in groups_of_equals(stems) if len(np.unique(paths[g])) > 1]
    names = image_paths(card, found, {int(i) for g in groups for i in g})
    for group in groups:
        files = sorted({names[int(i)] for i in group if int(i) in names})
        for file in files[1:]:
            part = found.parts[found.part[int(group[0])]]
            text = f"{shown(files[0], card.root)} has the same label file"
            findings.add(Finding("shared_label", part, shown(file, card.root), text, None, file))


def orphan_labels(card: Card, found: Scan, findings: Findings) -> None:
    """Labels in the folders of a part that no image of it belongs to."""
    stems = np.unique(np.frombuffer(found.stem, np.uint64))
    places = {place for part in found.parts for place in card.parts[part]}
    for part in found.parts:
        for folder in label_folders(card, part):
            for path in _texts(folder, places):
                image = _image_stem(path)
                key = np.uint64(text_hash(image))
                at = int(np.searchsorted(stems, key))
                if at == len(stems) or stems[at] != key:
                    text = f"no image {shown(image, card.root)}.*"
                    findings.add(Finding("orphan_label", part, shown(path, card.root), text))


def _texts(folder: str, places: set[str]) -> Iterator[str]:
    return (path for path in walk(folder) if path.endswith(".txt") and path not in places)


def _image_stem(label: str) -> str:
    before, found, after = label.rpartition("/labels/")
    return (f"{before}/images/{after}" if found else label).removesuffix(".txt")


def subjects(card: Card, found: Scan, index: Index, findings: Findings) -> None:
    """Subjects whose images lie in two parts, and rows that contradict each other."""
    part, subject = np.frombuffer(found.part, np.uint8), np.frombuffer(found.subject, np.int32)
    where: dict[int, list[int]] = defaultdict(list)
    for number in range(len(found.parts)):
        for s in np.unique(subject[(part == number) & (subject >= 0)]):
            where[int(s)].append(number)
    rest = {s: numbers for s, numbers in where.items() if len(numbers) > 1}
    examples = {s: np.flatnonzero((subject == s) & (part == numbers[-1]))[:LISTED] for s, numbers in rest.items()}
    odd = np.flatnonzero(subject == AMBIGUOUS)
    paths = image_paths(card, found, {int(i) for few in examples.values() for i in few} | {int(i) for i in odd})
    for s, numbers in rest.items():
        counts = ", ".join(f"{int(((subject == s) & (part == n)).sum())} images of {found.parts[n]}" for n in numbers)
        files = ", ".join(shown(paths[int(i)], card.root) for i in examples[s] if int(i) in paths)
        what = f"subject {index.subjects[s]}: {counts}, e.g. {files}"
        findings.add(Finding("subject_across", found.parts[numbers[-1]], str(index.path.name), what))
    for i in odd:
        file = shown(paths[int(i)], card.root) if int(i) in paths else "?"
        what = f"{index.path.name} has rows with different subjects for it"
        findings.add(Finding("index_conflict", found.parts[found.part[i]], file, what))


def gaps(card: Card, found: Scan, index: Index | None, findings: Findings) -> None:
    """Keypoints that nobody labelled, names that only the evaluation has, and a flip_idx that does not swap sides."""
    for number, part in enumerate(found.parts):
        if found.persons[number]:
            for k in np.flatnonzero(found.labelled[number] == 0):
                what = f"{card.names[k]}: in none of {found.persons[number]} persons"
                findings.add(Finding("never_labelled", part, card.file.name, what))
    if index is not None and "train" in found.parts:
        train = found.parts.index("train")
        for number, part in enumerate(found.parts):
            if number != train and found.names[train].any():
                for name in np.flatnonzero((found.names[number] > 0) & (found.names[train] == 0)):
                    what = f"{index.names[name]}: {found.names[number, name]} images, none in the training part"
                    findings.add(Finding("unseen_name", part, index.path.name, what))
    text = flip_problem(card)
    if text:
        findings.add(Finding("flip_idx", "", card.file.name, text))


def flip_problem(card: Card) -> str | None:
    """What is wrong with `flip_idx`: it has to swap pairs, and the names' left and right if they tell sides."""
    flip = card.flip_idx
    if flip is None:
        return None
    for k, partner in enumerate(flip):
        if flip[partner] != k:
            return f"{k} becomes {partner}, but {partner} becomes {flip[partner]}"
    for k, (name, wanted) in enumerate(zip(card.names, partners(card.names), strict=True)):
        if wanted is not None and flip[k] != wanted and not name.isdigit():
            return f"{name} becomes {card.names[flip[k]]}, expected {card.names[wanted]}"
    return None


def same_parts(card: Card, findings: Findings) -> list[str]:
    """Parts to be checked: each once, and a word about those that name the same images as an earlier one."""
    kept: dict[tuple[str, ...], str] = {}
    for part, places in card.parts.items():
        if places in kept:
            what = f"{part} names the same images as {kept[places]}"
            findings.add(Finding("same_part", part, card.file.name, what))
        else:
            kept[places] = part
    return list(kept.values())
