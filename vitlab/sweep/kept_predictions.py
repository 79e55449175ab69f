"""What the model of a tested trial said of every test image, kept beside its record: `predictions/<id>.npz`.

Two models that were tested on the same images can then be compared image by image. A file holds, in the order of the
test set, the label and the predicted class of each image, in one byte each up to 256 classes (10,000 images: at most
20 kB, compressed about half of that); where a label is not all that is asked for, whether the answer was right. A hash
of the test set keeps different images from being paired. Nothing in a file is pickled, and no result rests on one being
there: older versions kept none, and no torch is needed to read one.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitlab.atomic_file import atomic_file, read_whole

FOLDER = "predictions"
MAX_IMAGES = 100_000  # of a test set whose predictions are kept: 200 kB a trial before compression
_BROKEN = (ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class KeptPredictions:
    """One tested trial, image by image, in the order of the test set.

    Args:
        test_set: Hash of the test images and of what was asked of them.
        right: Whether the model was right.
        labels: What was asked for, and
        predicted: what the model said; both None where that is more than a label.

    Shape:
        all arrays: (images,).
    """

    test_set: str
    right: np.ndarray
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Say whether as many answers are right as the accuracy in the trial's record says."""
        accuracy = (record.get("test") or {}).get("accuracy")
        return accuracy is not None and round(accuracy * len(self.right)) == int(self.right.sum())


def predictions_path(folder: Path, trial_id: str) -> Path:
    """Return where the predictions of a trial stand."""
    return Path(folder) / FOLDER / f"{trial_id}.npz"


def hash_test_set(fingerprint: str, targets: np.ndarray) -> str:
    """Return sixteen hexadecimal digits: equal where the same images were asked for the same things.

    Args:
        fingerprint: The data set's.
        targets: What was asked of each test image, integers (images, ...).
    """
    numbers = np.ascontiguousarray(targets, dtype="<i8")
    return hashlib.sha256(f"{fingerprint} {numbers.shape} ".encode() + numbers.tobytes()).hexdigest()[:16]


def write_predictions(folder: Path, trial_id: str, kept: KeptPredictions) -> None:
    """Write the predictions of a trial, replacing earlier ones.

    Raises:
        OSError: They could not be written, such as on a full disk; no part of them is left.
    """
    arrays = {"right": kept.right} if kept.labels is None else {"labels": kept.labels, "predicted": kept.predicted}
    smallest = {name: values.astype(_smallest_type(values)) for name, values in arrays.items()}
    content = io.BytesIO()  # numpy writes a zip, and goes back in the file for it
    np.savez_compressed(content, test_set=np.array(kept.test_set), **smallest)
    with atomic_file(predictions_path(folder, trial_id), "wb") as file:
        file.write(content.getbuffer())


def read_predictions(folder: Path, trial_id: str) -> KeptPredictions | None:
    """Return the predictions of a trial, or None where none are kept.

    Raises:
        ValueError: The file cannot be read; the message names it.
    """
    path = predictions_path(folder, trial_id)
    try:
        content = io.BytesIO(read_whole(path))
        with np.load(content, allow_pickle=False) as arrays:
            if changed := arrays.zip.testzip():  # numpy alone does not read on to the checksum
                raise ValueError(f"the checksum of {changed} does not fit")
            return _parse({name: arrays[name] for name in arrays.files})
    except FileNotFoundError:
        return None
    except _BROKEN as error:
        raise ValueError(f"{path} holds no predictions ({error}); delete it") from error


def _parse(arrays: dict[str, np.ndarray]) -> KeptPredictions:
    test_set = str(arrays["test_set"][()])
    if "right" in arrays:
        kept = KeptPredictions(test_set, _checked(arrays["right"], "b"))
    else:
        labels, predicted = _checked(arrays["labels"], "iu"), _checked(arrays["predicted"], "iu")
        if labels.shape != predicted.shape:
            raise ValueError(f"{len(labels)} labels and {len(predicted)} predictions")
        kept = KeptPredictions(test_set, labels == predicted, labels, predicted)
    return kept


def _checked(values: np.ndarray, kinds: str) -> np.ndarray:
    if values.ndim != 1 or not len(values) or values.dtype.kind not in kinds:
        raise ValueError(f"an array of shape {values.shape} and type {values.dtype}, not one entry an image")
    return values


def _smallest_type(values: np.ndarray) -> np.dtype:
    return values.dtype if values.dtype.kind == "b" else np.min_scalar_type(int(values.max()))
