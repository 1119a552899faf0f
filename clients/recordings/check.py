"""Reads recordings that the crate `sensing` wrote with the packages that others read them with, and compares every sample.

    VITALTRACE_EXPORT=FOLDER cargo test --release -p sensing --test recordings
    check.py FOLDER

For each record: NAME.hea by wfdb, NAME.edf or NAME.bdf by pyedflib and mne, NAME.note by wfdb; NAME.N.i32 has the samples of signal N
as they were sent.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import mne
import numpy as np
import pyedflib
import wfdb

NONE = np.iinfo(np.int32).min


def sent(folder, name, signals):
    return [np.fromfile(folder / f"{name}.{n}.i32", dtype="<i4") for n in range(signals)]


def same(what, samples, got, none):
    """The samples as they were sent, then nothing but the mark for none."""
    got = np.asarray(got).astype(np.int64)
    expected = np.where(samples == NONE, none, samples)
    assert len(got) >= len(samples), f"{what}: {len(got)} samples of {len(samples)}"
    assert (got[: len(samples)] == expected).all(), f"{what}: samples differ"
    assert (got[len(samples) :] == none).all(), f"{what}: there is something after the end"


def by_wfdb(folder, name):
    record = wfdb.rdrecord(str(folder / name), physical=False, smooth_frames=False)
    signals = record.e_d_signal
    none = {"212": -2048, "16": -32768, "32": NONE}
    for n, samples in enumerate(sent(folder, name, record.n_sig)):
        same(f"wfdb {name} {n}", samples, signals[n], none[record.fmt[n]])
    assert record.base_datetime.isoformat().startswith("2026-11-21T10:00:00.25"), record.base_datetime
    notes = 0
    if (folder / f"{name}.note").exists():
        notes = len(wfdb.rdann(str(folder / name), "note").aux_note)
    return record, notes


def by_pyedflib(path, folder, name, record):
    if path.read_bytes()[192:197] in (b"EDF+D", b"BDF+D"):
        return by_pyedflib_in_one(path, folder, name, record)
    with pyedflib.EdfReader(str(path)) as file:
        assert file.signals_in_file == record.n_sig
        for n, samples in enumerate(sent(folder, name, record.n_sig)):
            same(f"pyedflib {name} {n}", samples, file.readSignal(n, digital=True), file.getDigitalMinimum(n))
            step = (file.getPhysicalMaximum(n) - file.getPhysicalMinimum(n)) / (file.getDigitalMaximum(n) - file.getDigitalMinimum(n))
            assert abs(step * record.adc_gain[n] - 1) < 1e-3, f"pyedflib {name} {n}: a step is {step}"
        return len(file.readAnnotations()[0])


def by_pyedflib_in_one(path, folder, name, record):
    """pyedflib refuses discontinuous files: as plain EDF their records follow each other, annotations among the signals."""
    plain = bytearray(path.read_bytes())
    plain[192:236] = b" " * 44
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as copy:
        copy.write(plain)
        copy.flush()
        with pyedflib.EdfReader(copy.name) as file:
            assert file.signals_in_file == record.n_sig + 1
            for n, samples in enumerate(sent(folder, name, record.n_sig)):
                recorded = samples[samples != NONE]
                same(f"pyedflib {name} {n}", recorded, file.readSignal(n, digital=True), file.getDigitalMinimum(n))
    return "unread"


def by_mne(path, name, record):
    read = mne.io.read_raw_bdf if path.suffix == ".bdf" else mne.io.read_raw_edf
    with warnings.catch_warnings():
        # It lays the parts of a discontinuous file one after the other, and annotations of the later ones outside.
        warnings.simplefilter("ignore", RuntimeWarning)
        raw = read(str(path), preload=True, verbose="error")
    assert len(raw.ch_names) == record.n_sig, f"mne {name}: {raw.ch_names}"
    assert len(raw.annotations) >= record.n_sig, f"mne {name}: {raw.annotations}"


def main():
    folder = Path(sys.argv[1])
    headers = sorted(folder.glob("*.hea"))
    assert headers, f"no records in {folder}"
    for header in headers:
        name = header.stem
        record, notes = by_wfdb(folder, name)
        path = next(folder / f"{name}.{end}" for end in ("edf", "bdf") if (folder / f"{name}.{end}").exists())
        said = by_pyedflib(path, folder, name, record)
        by_mne(path, name, record)
        print(f"{name}: {record.n_sig} signals, format {record.fmt[0]}, {path.suffix[1:]}, {notes} notes, {said} annotations", flush=True)
    print(f"{len(headers)} records came back as they were sent")


if __name__ == "__main__":
    main()
