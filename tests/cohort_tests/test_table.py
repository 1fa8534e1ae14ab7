import pickle
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_cohort import SIDE, contents, row_of, study, table, write, write_without_images

from cohort.patient_key import fingerprint, hash_ids, read_key
from cohort.reading.cell_values import derive_target
from cohort.segments import segment_columns
from cohort.split import write_split
from cohort.table import read_cohort
from spaces.errors import InputError, RefusedError
from spaces.sections import DerivedTarget

INPUTS = ("rest", "stress", "reserve")
DERIVE = {"impaired": {"below": 2.0}}


def refusal(folder, message, a_study=None, **options):
    """The text of the InputError, after checking that it matches and names no patient or path."""
    with pytest.raises(InputError, match=message) as error:
        read_cohort(a_study or study(), folder, **options)
    text = str(error.value)
    assert "SECRET" not in text
    assert str(folder) not in text
    assert "\n" not in text
    return text


def broken(folder, frame, message, a_study=None):
    """The refusal of a table whose images need not exist."""
    options = {"verify_images": False}
    return refusal(write_without_images(folder, frame), message, a_study, **options)


class TestAValidCohort:
    def test_holds_the_development_rows_in_table_order(self, tmp_path):
        frame = table(inputs=INPUTS)
        cohort = read_cohort(study(inputs=list(INPUTS)), write(tmp_path, frame, inputs=INPUTS))
        rows = [row_of(frame, identity) for identity in cohort.development.ids]
        assert rows == sorted(rows)
        assert len(rows) == 32 == len(cohort.split.development)
        assert cohort.test_size == 8 == len(cohort.split.test)
        own = frame.iloc[rows]
        held = cohort.development
        assert np.array_equal(held.target, own["sex"].to_numpy(dtype=float))
        assert np.array_equal(held.segments, own[segment_columns("mfr")].to_numpy(dtype=float))
        stress = own[segment_columns("stress_mbf")].to_numpy(dtype=float)
        assert np.array_equal(held.baseline_segments["stress"], stress)
        assert held.images["reserve"][3] == tmp_path.resolve() / own["reserve"].iloc[3]
        assert list(held.covariates.columns) == ["age", "centre"]
        assert held.covariates["age"].dtype == np.float64
        assert list(held.covariates["centre"]) == list(own["centre"])

    def test_is_named_after_its_folder_or_file(self, tmp_path):
        frame = table()
        folder = write_without_images(tmp_path / "alkmaar", frame)
        assert read_cohort(study(), folder, verify_images=False).name == "alkmaar"
        shutil.copy(folder / "cohort.csv", folder / "pet.csv")
        named = study(path="pet.csv")
        assert read_cohort(named, folder, verify_images=False).name == "pet"

    @pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".dcm"])
    def test_paths_of_maps_that_the_study_does_not_use_are_no_covariate(self, tmp_path, ending):
        """They may name patients, and a report shows covariates."""
        paths = [f"maps/{number}{ending.upper()}" for number in range(40)]
        folder = write_without_images(tmp_path, table().assign(hybrid=["", *paths[1:]]))
        cohort = read_cohort(study(), folder, verify_images=False)
        assert "hybrid" not in cohort.development.covariates

    def test_every_number_is_read_to_its_last_bit(self, tmp_path):
        frame = table()
        values = np.random.default_rng(3).uniform(0, 5, 40)
        frame["mfr_05"] = [repr(value) for value in values.tolist()]
        frame.loc[0, "mfr_05"] = "+2.50e0"
        values[0] = 2.5
        cohort = read_cohort(study(), write_without_images(tmp_path, frame), verify_images=False)
        rows = [row_of(frame, identity) for identity in cohort.development.ids]
        assert np.array_equal(cohort.development.segments[:, 4], values[rows])

    def test_is_read_as_excel_writes_it_where_the_comma_is_the_decimal_mark(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        path, options = folder / "cohort.csv", {"verify_images": False, "create_key": True}
        with_commas = read_cohort(study(), folder, **options).development
        lines = path.read_text().splitlines()
        words = [[re.sub(r"^(\d+)\.", r"\1,", word) for word in line.split(",")] for line in lines]
        content = "\r\n".join(";".join(row) for row in words)
        assert "0," in content
        assert ".png;" in content
        path.write_bytes(content.encode("utf-8-sig"))
        with_semicolons = read_cohort(study(), folder, **options).development
        assert contents(with_semicolons) == contents(with_commas)

    def test_without_segments_regresses_nothing(self, tmp_path):
        frame = table().loc[:, lambda columns: ~columns.columns.str.match(r".*_\d\d$")]
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(segments=None), folder, verify_images=False)
        assert cohort.development.segments is None
        assert cohort.development.baseline_segments == {}

    def test_counts_the_flow_and_never_loads_excluded_rows(self, tmp_path):
        frame = table(50)
        reasons = ["prior PCI"] * 6 + ["quality"] * 4 + ["", "NA"] * 20
        frame["exclusion_reason"] = reasons
        frame.loc[:9, "rest"] = "../gone.png"
        frame.loc[:9, "mfr_01"] = "-1"
        frame["sex"] = frame["sex"].where(frame.index != 20, "")
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False)
        missing = int("SECRET020" in cohort.development.ids)
        assert cohort.flow == {
            "collected": 50,
            "excluded": {"prior PCI": 6, "quality": 4},
            "included": 40,
            "development": 32,
            "test": 8,
            "missing_target": missing,
        }
        assert not set(frame["patient_id"][:10]) & set(cohort.development.ids)

    def test_masks_missing_labels_and_segments(self, tmp_path):
        frame = table()
        frame.loc[:4, "sex"] = ["", "NA", "nan", "null", "N/A"]
        frame.loc[5:9, "mfr_03"] = ""
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False)
        rows = np.array([row_of(frame, identity) for identity in cohort.development.ids])
        assert np.array_equal(np.isnan(cohort.development.target), rows < 5)
        assert np.array_equal(
            np.isnan(cohort.development.segments[:, 2]), (rows >= 5) & (rows < 10)
        )

    def test_reads_what_spreadsheets_write(self, tmp_path):
        """A byte-order mark, Windows line ends, blank lines, quoted commas and line breaks."""
        frame = table()
        frame["note"] = 'said "no", then\nyes'
        frame.to_csv(tmp_path / "plain.csv", index=False, lineterminator="\r\n")
        text = (tmp_path / "plain.csv").read_bytes()
        first = text.index(b"\r\n") + 2
        text = text[:first] + b"\r\n" + text[first:] + b"," * (frame.shape[1] - 1) + b"\r\n\r\n"
        (tmp_path / "cohort.csv").write_bytes(b"\xef\xbb\xbf" + text)
        cohort = read_cohort(study(), tmp_path, verify_images=False)
        assert cohort.flow["collected"] == 40
        assert cohort.development.covariates["note"][0] == 'said "no", then\nyes'

    def test_the_row_order_changes_nobodys_place(self, tmp_path):
        frame = table()
        shuffled = frame.sample(frac=1, random_state=1)
        first = write_without_images(tmp_path / "a", frame)
        read_cohort(study(), first, verify_images=False, create_key=True)
        second = write_without_images(tmp_path / "b", shuffled)
        shutil.copy(first / "cohort.key", second)
        splits = [read_cohort(study(), f, verify_images=False).split for f in (first, second)]
        assert splits[0].sha256 == splits[1].sha256

    def test_a_split_column_is_followed(self, tmp_path):
        frame = table()
        frame["uci_split"] = ["test", "test", "development", "development"] * 10
        a_study = study(split={"column": "uci_split", "folds": 3})
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(a_study, folder, verify_images=False)
        expected = frame["patient_id"][frame["uci_split"] == "development"]
        assert cohort.development.ids == tuple(expected)
        assert "uci_split" not in cohort.development.covariates

    @pytest.mark.slow
    def test_the_time_grows_with_the_rows_and_not_with_their_square(self, tmp_path):
        seconds = []
        for count in (5_000, 50_000):
            many = pd.concat([table(200)] * (count // 200), ignore_index=True)
            many["patient_id"] = [f"SECRET{number:06d}" for number in range(count)]
            folder = write_without_images(tmp_path / str(count), many)
            start = time.process_time()
            cohort = read_cohort(study(split={"test": 0.1}), folder, verify_images=False)
            seconds.append(time.process_time() - start)
            assert len(cohort.development) == 0.9 * count
        assert seconds[1] < 30 * seconds[0]


class TestTheKeyAndAGivenSplit:
    def test_the_key_is_written_only_when_asked(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        first = read_cohort(study(), folder, verify_images=False)
        assert not (folder / "cohort.key").exists()
        kept = read_cohort(study(), folder, verify_images=False, create_key=True)
        key = read_key(folder / "cohort.csv")
        assert kept.split.key_fingerprint == fingerprint(key) != first.split.key_fingerprint
        assert kept.split.development == hash_ids(key, kept.development.ids)
        assert first.development.ids == kept.development.ids

    def test_a_given_split_is_used_in_its_order_though_rows_moved(self, tmp_path):
        frame = table()
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False, create_key=True)
        write_without_images(tmp_path, frame.iloc[::-1])
        other_seed = study(split={"test": 8, "folds": 3, "seed": 9})
        again = read_cohort(other_seed, folder, split=cohort.split, verify_images=False)
        assert contents(again.development) == contents(cohort.development)

    def test_a_split_of_other_patients_is_refused(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        split = read_cohort(study(), folder, verify_images=False, create_key=True).split
        write_without_images(tmp_path, table(41).iloc[2:])
        with pytest.raises(RefusedError, match="2 are gone, 1 are new"):
            read_cohort(study(), folder, split=split, verify_images=False)

    def test_a_split_of_another_key_is_refused(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        split = read_cohort(study(), folder, verify_images=False, create_key=True).split
        (folder / "cohort.key").write_bytes(bytes(32))
        with pytest.raises(RefusedError, match=r"cohort\.key: its fingerprint must be"):
            read_cohort(study(), folder, split=split, verify_images=False)
        (folder / "cohort.key").unlink()
        refusal(folder, "the key that made the split is missing", split=split, verify_images=False)

    def test_a_cohort_without_a_key_can_be_looked_at_under_one_split(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        split = read_cohort(study(), folder, verify_images=False).split
        again = read_cohort(study(), folder, split=split, verify_images=False)
        assert again.split.sha256 == split.sha256
        assert not (folder / "cohort.key").exists()

    def test_a_key_that_others_may_read_is_warned_of(self, tmp_path):
        folder = write_without_images(tmp_path, table())
        read_cohort(study(), folder, verify_images=False, create_key=True)
        (folder / "cohort.key").chmod(0o644)
        (warning,) = read_cohort(study(), folder, verify_images=False).warnings
        assert "chmod 600 cohort.key" in warning


class TestTheSeal:
    @pytest.mark.parametrize("by_column", [False, True])
    def test_noise_in_the_test_rows_changes_nothing_that_is_returned(self, tmp_path, by_column):
        inputs = list(INPUTS)
        frame = table(inputs=INPUTS)
        frame["split"] = ["test", "development", "development", "development"] * 10
        section = {"test": 8, "folds": 3, "column": "split" if by_column else None}
        a_study = study(inputs=inputs, split=section)
        folder = write(tmp_path, frame, inputs=INPUTS)
        cohort = read_cohort(a_study, folder, create_key=True)
        noise = np.random.default_rng(5)
        for row in set(range(40)) - {row_of(frame, i) for i in cohort.development.ids}:
            for name in frame.columns[frame.columns.str.match(r".*_\d\d$")]:
                frame.loc[row, name] = noise.uniform(0, 9)
            frame.loc[row, "sex"] = row // 4 % 2 if by_column else noise.integers(0, 2)
            frame.loc[row, ["age", "centre"]] = [noise.uniform(), "elsewhere"]
            pixels = noise.integers(0, 256, (30, 40)).astype(np.uint8)
            for name in INPUTS:
                frame.loc[row, name] = f"images/other{row}_{name}.jpg"
                Image.fromarray(np.roll(pixels, ord(name[2]))).save(folder / frame.loc[row, name])
        frame.to_csv(folder / "cohort.csv", index=False)
        noisy = read_cohort(a_study, folder)
        assert noisy.table_sha256 != cohort.table_sha256
        assert contents(noisy.development) == contents(cohort.development)
        assert noisy.split.sha256 == cohort.split.sha256
        assert noisy.flow == cohort.flow
        assert noisy.warnings == cohort.warnings

    def test_the_cohort_holds_nothing_of_test_patients(self, tmp_path):
        frame = table()
        frame["mfr_09"] = np.arange(40) + 0.123456789
        frame["centre"] = [f"centre{row:03d}" for row in range(40)]
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False)
        held = pickle.dumps(cohort)
        development = {row_of(frame, identity) for identity in cohort.development.ids}
        for row in range(40):
            traces = [
                frame["patient_id"][row].encode(),
                frame["centre"][row].encode(),
                np.float64(frame["mfr_09"][row]).tobytes(),
            ]
            assert [trace in held for trace in traces] == [row in development] * 3

    def test_ids_stand_in_no_repr_and_no_split_file(self, tmp_path):
        folder = write_without_images(tmp_path / "in", table())
        cohort = read_cohort(study(), folder, verify_images=False)
        write_split(tmp_path / "split.json", cohort.split)
        assert "SECRET" not in repr(cohort) + (tmp_path / "split.json").read_text()

    def test_a_broken_test_row_is_told_without_its_value(self, tmp_path):
        frame = table()
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False)
        rows = {row_of(frame, identity) for identity in cohort.development.ids}
        test_row = min(set(range(40)) - rows)
        frame.loc[[test_row, min(rows)], "mfr_02"] = ["-7.25", "-8.75"]
        text = broken(tmp_path, frame, "2 broken cells: a segment value must be >= 0: row")
        assert f"row {min(rows) + 2} mfr_02 '-8.75'" in text
        assert re.search(rf"row {test_row + 2} mfr_02[,.]", text)
        assert "7.25" not in text
        frame.loc[min(rows), "mfr_02"] = 2.0
        broken(tmp_path, frame, rf"row {test_row + 2} mfr_02: .*, got a value that is sealed")

    @pytest.mark.parametrize("doubt", ["strata", "empty id", "repeated id", "earlier split"])
    def test_no_value_is_shown_where_the_split_is_in_doubt(self, tmp_path, doubt):
        frame = table()
        folder = write_without_images(tmp_path, frame)
        split = read_cohort(study(), folder, verify_images=False, create_key=True).split
        frame["mfr_02"] = "-8.75"
        if doubt == "empty id":
            frame.loc[0, "patient_id"] = ""
        if doubt == "repeated id":
            frame.loc[0, "patient_id"] = frame.loc[1, "patient_id"]
        write_without_images(tmp_path, frame)
        a_study = study(split={"test": 8, "folds": 3, "stratify": doubt == "strata"})
        earlier = split if doubt == "earlier split" else None
        options = {"verify_images": False, "split": earlier}
        assert "8.75" not in refusal(folder, "broken cells", a_study, **options)


class TestUnreadableTables:
    def test_missing_table(self, tmp_path):
        refusal(tmp_path, r"^cohort\.csv: the cohort table cannot be read \(No such file")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no header row"),
            (b"\xef\xbb\xbf", "no header row"),
            (b"patient_id,rest\n\xff\xfe,a\n", r"csv line 2: .* be UTF-8 text, got byte 0xff"),
            ("patient_id,rest\nSECRET1,a\n".encode("utf-16"), "got UTF-16 or binary data"),
            ("patient_id,rest\nSECRET1,a\n".encode("utf-16-be"), "got UTF-16 or binary data"),
            (b'patient_id,rest\n"SECRET1,a\n', "never closed|as many cells"),
            (b"patient_id,rest\nSECRET1,a\n\nSECRET2,b,c\nSECRET3\n", r"row 4, 5: .*2 have not"),
            (b"patient_id\trest\nSECRET1\ta\n", "separated by commas or semicolons, got tabs"),
            (b"SECRET1,SECRET1.png\nSECRET2,SECRET2.png\n", "'patient_id' is missing"),
            (b"patient_id,sex,sex\nSECRET1,1,1\n", "'sex' stands there twice"),
        ],
    )
    def test_content_that_is_no_table(self, tmp_path, content, message):
        (tmp_path / "cohort.csv").write_bytes(content)
        refusal(tmp_path, message)

    @pytest.mark.parametrize("excluded", [False, True])
    def test_empty_cohort(self, tmp_path, excluded):
        frame = table().assign(exclusion_reason="gone")
        frame = frame if excluded else frame[:0]
        broken(tmp_path, frame, r"the cohort is empty: \d+ rows, \d+ of them with an exclusion")

    def test_missing_column_names_the_nearest(self, tmp_path):
        frame = table().rename(columns={"rest": "rets"})
        broken(tmp_path, frame, r"cohort\.csv row 1: column 'rest' is missing.*Did you mean 'rets'")

    def test_missing_target_and_split_columns(self, tmp_path):
        broken(tmp_path, table(), r"'smoking' is missing \(cohort.target", study(target="smoking"))
        split = {"column": "part"}
        broken(tmp_path, table(), r"'part' is missing \(cohort.split.column", study(split=split))

    def test_sixteen_of_seventeen_segments(self, tmp_path):
        frame = table().drop(columns="mfr_09")
        broken(tmp_path, frame, "16 of 17 segment columns 'mfr' are there, mfr_09 missing")

    def test_no_segments_at_all(self, tmp_path):
        a_study = study(segments="flow")
        broken(tmp_path, table(), "flow_01 to flow_17 are missing.*segments: null", a_study)


class TestBrokenCells:
    """Each error names the row as a spreadsheet shows it: the first patient stands in row 2."""

    @pytest.mark.parametrize(
        ("row", "column", "value", "message"),
        [
            (5, "patient_id", "", r"^cohort\.csv row 7 patient_id: the patient id is empty"),
            (5, "rest", "", "row 7 rest: the image path is missing"),
            (5, "rest", "/etc/SECRET.png", "row 7 rest: the path must be relative"),
            (5, "rest", "C:/SECRET.png", "row 7 rest: the path must be relative"),
            (5, "rest", r"images\SECRET.png", "row 7 rest: the path must use forward slashes"),
            (5, "rest", "images/../../SECRET.png", "row 7 rest: the path leaves the cohort's"),
            (5, "rest", "..", "row 7 rest: the path leaves the cohort's folder"),
            (5, "sex", "2", "row 7 sex: a target must be 0, 1 or empty, got"),
            (5, "sex", "female", "row 7 sex: a target must be 0, 1 or empty, got"),
            (5, "mfr_17", "-0.5", "row 7 mfr_17: a segment value must be >= 0, got"),
            (5, "mfr_17", "2,5", "row 7 mfr_17: the cell must be a number.*decimal point"),
            (5, "mfr_17", "inf", "row 7 mfr_17: the cell must be a number"),
            (5, "mfr_17", "1e999", "row 7 mfr_17: the cell must be a number"),
            (5, "rest_mbf_01", "-1", "row 7 rest_mbf_01: a segment value must be >= 0"),
        ],
    )
    def test_one_broken_cell(self, tmp_path, row, column, value, message):
        frame = table()
        frame.loc[row, column] = value
        broken(tmp_path, frame, message)

    def test_a_value_that_may_be_an_id_in_the_wrong_column_is_not_shown(self, tmp_path):
        frame = table()
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(study(), folder, verify_images=False)
        row = row_of(frame, cohort.development.ids[0])
        frame.loc[row, "sex"] = frame.loc[row, "patient_id"]
        broken(tmp_path, frame, "sex: a target must be 0, 1 or empty, got a text of 9 char")
        frame.loc[row, "sex"] = "female"
        broken(tmp_path, frame, "sex: a target must be 0, 1 or empty, got 'female'")

    def test_duplicate_ids_are_found_behind_blanks(self, tmp_path):
        frame = table()
        frame.loc[7, "patient_id"] = " SECRET003 "
        text = broken(tmp_path, frame, "2 broken cells: .* in more than one row: row 5 pat")
        assert "row 9 patient_id" in text

    def test_blank_lines_keep_the_row_numbers_of_the_spreadsheet(self, tmp_path):
        frame = table()
        frame.loc[5, "sex"] = 3
        folder = write_without_images(tmp_path, frame)
        lines = (folder / "cohort.csv").read_text().split("\n")
        (folder / "cohort.csv").write_text("\n".join([*lines[:3], "", *lines[3:]]))
        refusal(folder, "row 8 sex", verify_images=False)

    def test_all_broken_rows_stand_in_one_error(self, tmp_path):
        frame = table()
        frame.loc[3, "rest"] = "/absolute.png"
        frame.loc[1, "sex"] = "7"
        frame.loc[10:, "mfr_01"] = "x"
        text = broken(
            tmp_path, frame, "32 broken cells: .*: row 3 sex .*: row 5 rest.* and 27 more"
        )
        assert text.count("row ") == 5  # 1 target, 1 path, 3 numbers
        assert text.endswith("Write a decimal point, no units; leave unknown values empty.")

    def test_a_third_word_in_the_split_column(self, tmp_path):
        frame = table().assign(part=["development", "test", "train", "test"] * 10)
        message = "10 broken cells: the cell must be 'development' or 'test': row 4 part"
        broken(tmp_path, frame, message, study(split={"column": "part"}))


class TestTargets:
    @pytest.mark.parametrize("value", [0, 1])
    def test_one_class(self, tmp_path, value):
        broken(
            tmp_path, table().assign(sex=value), "cohort.target: the 32 .* must have both classes"
        )

    def test_no_value(self, tmp_path):
        broken(tmp_path, table().assign(sex=""), "must have both classes")

    def test_a_derived_target_needs_no_column(self, tmp_path):
        frame = table()
        values = np.full((40, 17), 3.0)
        values[::2, 4] = 1.99
        values[1, 0] = np.nan
        frame[segment_columns("mfr")] = values
        a_study = study(target="impaired", derive=DERIVE)
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(a_study, folder, verify_images=False)
        rows = np.array([row_of(frame, identity) for identity in cohort.development.ids])
        expected = np.where(rows == 1, np.nan, (rows % 2 == 0).astype(float))
        assert np.array_equal(cohort.development.target, expected, equal_nan=True)

    def test_derivation_looks_at_its_territory_only(self):
        segments = np.full((4, 17), 3.0)
        segments[0, 0] = 1.0  # segment 1: LAD
        segments[1, 4] = 1.0  # segment 5: LCx
        segments[2, [4, 5]] = [np.nan, 1.0]  # one missing, one below: below decides
        segments[3, 15] = np.nan  # segment 16: LCx
        lcx = derive_target(segments, DerivedTarget(below=2.0, segments="LCx"))
        assert np.array_equal(lcx, [0, 1, 1, np.nan], equal_nan=True)
        everywhere = derive_target(segments, DerivedTarget(below=2.0))
        assert np.array_equal(everywhere, [1, 1, 1, np.nan], equal_nan=True)

    @pytest.mark.parametrize(("given", "shown"), [(1, "1 given"), (0, "0 given"), ("", "missing")])
    def test_given_and_derived_must_agree(self, tmp_path, given, shown):
        frame = table()
        values = np.full((40, 17), 3.0)
        values[::2] = 1.0
        frame[segment_columns("mfr")] = values
        frame["impaired"] = (values[:, 0] < 2).astype(int)
        a_study = study(target="impaired", derive=DERIVE)
        folder = write_without_images(tmp_path, frame)
        cohort = read_cohort(a_study, folder, verify_images=False)
        inside = [row_of(frame, identity) for identity in cohort.development.ids]
        row = next(row for row in inside if (row % 2 == 0) != (given == 1))
        frame["impaired"] = frame["impaired"].astype(object)
        frame.loc[row, "impaired"] = given
        text = broken(tmp_path, frame, f"row {row + 2} impaired: the given target differs", a_study)
        assert shown in text


class TestImages:
    def test_unusable_images_are_told_by_row_and_column(self, tmp_path):
        frame = table()
        folder = write(tmp_path, frame)
        paths = [folder / path for path in frame["rest"]]
        paths[0].unlink()
        paths[1].write_bytes(paths[1].read_bytes()[:100])
        paths[2].write_text("no image")
        Image.new("RGB", (1, 1)).save(paths[3])
        text = refusal(folder, "4 broken cells")
        assert "the image file is missing: row 2 rest" in text
        assert "the image file is truncated or damaged: row 3 rest" in text
        assert "the image must be an intact PNG or JPEG: row 4 rest" in text
        assert "the image must be at least 16 pixels a side: row 5 rest" in text
        assert read_cohort(study(), folder, verify_images=False).test_size == 8

    def test_equal_pixels_under_two_ids(self, tmp_path):
        frame = table(inputs=INPUTS)
        folder = write(tmp_path, frame, inputs=INPUTS)
        image = Image.open(folder / frame["rest"][4])
        image.save(folder / frame["stress"][9], compress_level=0)
        message = "row 11 stress: the image has the same pixels as one of row 6"
        refusal(folder, message, study(inputs=list(INPUTS)))

    def test_one_path_in_two_rows(self, tmp_path):
        frame = table()
        folder = write(tmp_path, frame)
        frame.loc[9, "rest"] = frame.loc[4, "rest"]
        frame.to_csv(folder / "cohort.csv", index=False)
        refusal(folder, "row 11 rest: the image has the same pixels as one of row 6")

    @pytest.mark.parametrize("verify_images", [True, False])
    @pytest.mark.parametrize("link", ["file", "folder", "chain"])
    def test_links_out_of_the_folder(self, tmp_path, link, verify_images):
        outside = tmp_path / "outside"
        outside.mkdir()
        Image.effect_noise((SIDE, SIDE), 50).convert("RGB").save(outside / "map.png")
        frame = table()
        folder = write(tmp_path / "in", frame)
        if link == "file":
            (folder / "images" / "link.png").symlink_to(outside / "map.png")
            frame.loc[0, "rest"] = "images/link.png"
        elif link == "folder":
            (folder / "elsewhere").symlink_to(outside)
            frame.loc[0, "rest"] = "elsewhere/map.png"
        else:
            (folder / "second").symlink_to(outside)
            (folder / "images" / "link.png").symlink_to("../second/map.png")
            frame.loc[0, "rest"] = "images/link.png"
        frame.to_csv(folder / "cohort.csv", index=False)
        message = "row 2 rest: the path leaves the cohort's folder through a symbolic link"
        refusal(folder, message, verify_images=verify_images)

    def test_links_inside_the_folder_are_fine(self, tmp_path):
        frame = table()
        folder = write(tmp_path / "in", frame)
        (folder / "images" / "link.png").symlink_to(folder / frame["rest"][0])
        frame.loc[0, "rest"] = "images/link.png"
        frame.to_csv(folder / "cohort.csv", index=False)
        (tmp_path / "way").symlink_to(folder)
        assert read_cohort(study(), tmp_path / "way").test_size == 8
