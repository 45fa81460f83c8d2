"""What shows only when images are held against each other: duplicates, subjects, labels without image, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import label_folders, told, walk
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.hashes import nearest, text_hash
from dpose_yolo.dataset.images import likeness
from dpose_yolo.dataset.index import AMBIGUOUS, Index
from dpose_yolo.dataset.scan import Scan
from dpose_yolo.dataset.spool import as_text, signed
from dpose_yolo.keypoints import partners

NEAR_BITS = 10  # of 64: pairs this near are compared pixel by pixel
NEAR_GREY = 6.0  # mean difference in grey levels below which two pictures are the same one
QUERIES, POOL = 16_384, 4096  # images that are compared with images at a time
LISTED = 3  # files that a finding about many names


def duplicates(card: Card, found: Scan, findings: Findings) -> None:
    """Equal files in one part and in two, then pictures in two parts that look the same."""
    equal = """
        SELECT content, i, part, path, width, latest FROM images JOIN (
            SELECT content, max(part) AS latest FROM images WHERE content NOT NULL GROUP BY content HAVING count(*) > 1
        ) USING (content) ORDER BY content, part, path, i
    """
    group, first, own, before = None, (0, b""), (0, b""), (0, b"")
    for content, i, part, path, width, latest in found.spool.rows(equal):
        this = (part, path)
        if content == group and this == before:
            continue  # listed twice
        if content != group:
            group, first, own = content, this, this
        elif part != own[0]:
            own = this
            _tell_pair("duplicate_across", card, found, findings, (*this, width), first, "the same bytes as")
        else:
            _tell_pair("duplicate", card, found, findings, (*this, width), own, "the same bytes as")
        before = this
        if part != latest or this != own:  # the latest part keeps one copy: evaluation stays what it was
            found.leave_out(i)
    _alike(card, found, findings)


def _tell_pair(
    kind: str,
    card: Card,
    found: Scan,
    findings: Findings,
    image: tuple[int, bytes, int],
    other: tuple[int, bytes],
    text: str,
) -> None:
    """A finding about an image (part, path, width) and another one (part, path)."""
    part, file = found.parts[image[0]], as_text(image[1])
    what = f"{text} {told(as_text(other[1]), card)} of the {found.parts[other[0]]} part"
    findings.add(Finding(kind, part, told(file, card), what, None, file if image[2] else ""))


def _alike(card: Card, found: Scan, findings: Findings) -> None:
    """Pairs of nearly equal pictures of different bytes, each image of a later part with the likest of earlier ones."""
    for number in range(1, len(found.parts)):
        for at, hashes in _looks(found, "part = ?", number, QUERIES):
            where, bits = nearest(hashes, _looks(found, "part < ?", number, POOL))
            for i in np.flatnonzero(bits <= NEAR_BITS):
                found.spool.put("INSERT INTO near VALUES (?, ?)", (int(at[i]), int(where[i])))
    pairs = """
        SELECT a.part, a.path, a.width, b.part, b.path, b.i FROM near
        CROSS JOIN images a ON a.i = near.i CROSS JOIN images b ON b.i = near.other
        WHERE a.content IS NOT b.content AND NOT EXISTS (  -- listed twice
            SELECT 1 FROM images c WHERE c.content = a.content AND c.part = a.part AND c.path = a.path AND c.i < a.i
        ) ORDER BY near.rowid
    """
    for part, path, width, other_part, other, j in found.spool.rows(pairs):
        grey = likeness(as_text(path), as_text(other))
        if grey < NEAR_GREY:
            text = f"differs by {grey:.1f} of 255 grey levels from"
            _tell_pair("near_duplicate_across", card, found, findings, (part, path, width), (other_part, other), text)
            found.leave_out(j)


def _looks(found: Scan, which: str, number: int, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images with a difference hash in the order they were met, some at a time: their numbers, and their hashes."""
    rows = found.spool.rows(f"SELECT i, look FROM images WHERE {which} AND look NOT NULL ORDER BY i", number)
    while len(some := np.array(list(islice(rows, block)), np.int64)):
        yield some[:, 0], some[:, 1].astype(np.uint64)


def shared_labels(card: Card, found: Scan, findings: Findings) -> None:
    """Images of one name and different suffixes: the engine gives both the same label."""
    query = """
        SELECT stem, path, (SELECT part FROM images b WHERE b.stem = a.stem ORDER BY i LIMIT 1) FROM images a
        WHERE stem IN (SELECT stem FROM images GROUP BY stem HAVING count(*) > 1)
        GROUP BY stem, path ORDER BY stem, path
    """
    group, first = None, ""
    for stem, path, part in found.spool.rows(query):
        file = as_text(path)
        if stem != group:
            group, first = stem, file
            continue
        text = f"{told(first, card)} has the same label file"
        findings.add(Finding("shared_label", found.parts[part], told(file, card), text, None, file))


def orphan_labels(card: Card, found: Scan, findings: Findings) -> None:
    """Labels in the folders of a part that no image of it belongs to."""
    places = {place for part in found.parts for place in card.parts[part]}
    for part in found.parts:
        for folder in label_folders(card, part):
            for path in _texts(folder, places):
                image = _image_stem(path)
                if not found.spool.first("SELECT 1 FROM images WHERE stem = ?", signed(text_hash(image))):
                    text = f"no image {told(image, card)}.*"
                    findings.add(Finding("orphan_label", part, told(path, card), text))


def _texts(folder: str, places: set[str]) -> Iterator[str]:
    return (path for path in walk(folder) if path.endswith(".txt") and path not in places)


def _image_stem(label: str) -> str:
    before, found, after = label.rpartition("/labels/")
    return (f"{before}/images/{after}" if found else label).removesuffix(".txt")


def subjects(card: Card, found: Scan, index: Index, findings: Findings) -> None:
    """Subjects whose images lie in two parts, and rows that contradict each other."""
    across = """
        SELECT subject, max(part) FROM images WHERE subject >= 0 GROUP BY subject HAVING min(part) < max(part)
        ORDER BY min(part), subject
    """
    by_part = "SELECT part, count(*) FROM images WHERE subject = ? GROUP BY part ORDER BY part"
    some = f"SELECT path FROM images WHERE subject = ? AND part = ? ORDER BY i LIMIT {LISTED}"
    for subject, last in found.spool.rows(across):
        counts = ", ".join(
            f"{count} images of {found.parts[part]}" for part, count in found.spool.rows(by_part, subject)
        )
        files = ", ".join(told(as_text(path), card) for (path,) in found.spool.rows(some, subject, last))
        what = f"subject {index.subjects[subject]}: {counts}, e.g. {files}"
        findings.add(Finding("subject_across", found.parts[last], str(index.path.name), what))
    odd = "SELECT part, path FROM images WHERE subject = ? ORDER BY i"
    for part, path in found.spool.rows(odd, AMBIGUOUS):
        what = f"{index.path.name} has rows with different subjects for it"
        findings.add(Finding("index_conflict", found.parts[part], told(as_text(path), card), what))


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
