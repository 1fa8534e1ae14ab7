"""What looks wrong without breaking a rule is warned of, and what is sound is not."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from small_cohort import study, table, write

import cohort.reading.suspicions
from cohort.drawing.phantom import draw_patients
from cohort.reading.images import inspect_images
from cohort.reading.suspicions import find_twins
from cohort.segments import segment_columns
from cohort.table import read_cohort

INPUTS = ("rest", "stress", "reserve")


class TestWarnings:
    def warnings(self, folder, frame, **section):
        inputs = section.get("inputs", ["rest"])
        write(folder, frame, inputs=inputs)
        return read_cohort(study(**section), folder).warnings

    def test_a_sound_cohort_has_none(self, tmp_path):
        assert self.warnings(tmp_path, table(inputs=INPUTS), inputs=list(INPUTS)) == ()

    def test_swapped_stress_and_reserve_values(self, tmp_path):
        frame = table()
        stress, reserve = segment_columns("stress_mbf"), segment_columns("mfr")
        swapped = dict(zip(stress + reserve, reserve + stress, strict=True))
        (warning,) = self.warnings(tmp_path, frame.rename(columns=swapped))
        assert "look swapped" in warning

    def test_test_rows_are_not_judged(self, tmp_path):
        split = {"test": 28, "folds": 2}
        frame = table()
        folder = write(tmp_path, frame)
        inside = read_cohort(study(split=split), folder).development.ids
        stress, reserve = segment_columns("stress_mbf"), segment_columns("mfr")
        rows = ~frame["patient_id"].isin(inside)
        frame.loc[rows, stress + reserve] = frame.loc[rows, reserve + stress].to_numpy()
        assert self.warnings(tmp_path, frame, split=split) == ()

    def test_swapped_stress_and_reserve_files(self, tmp_path):
        frame = table(inputs=INPUTS).rename(columns={"stress": "reserve", "reserve": "stress"})
        found = self.warnings(tmp_path, frame, inputs=list(INPUTS))
        assert [warning for warning in found if "are the columns swapped" in warning] == list(found)
        assert len(found) == 2

    @pytest.mark.parametrize("scale", ["relative", "unknown"])
    def test_relative_colours_with_flow_targets(self, tmp_path, scale):
        (warning,) = self.warnings(tmp_path, table(), colour_scale=scale)
        assert f"colour_scale is {scale}" in warning
        assert self.warnings(tmp_path, table(), colour_scale=scale, segments=None) == ()

    def test_label_dependent_format(self, tmp_path):
        frame = table(60)
        positive = frame["sex"] == 1
        frame.loc[positive, "rest"] = frame.loc[positive, "rest"].str.replace(".png", ".jpg")
        found = self.warnings(tmp_path, frame)
        assert any("format or size in pixels of the 'rest' images" in text for text in found)

    def test_label_dependent_file_size(self, tmp_path):
        frame = table(60)
        folder = write(tmp_path, frame)
        for path in frame["rest"][frame["sex"] == 1]:
            pixels = np.asarray(Image.open(folder / path)) // 64 * 64
            Image.fromarray(pixels).save(folder / path)
        (warning,) = read_cohort(study(), folder).warnings
        assert (
            "file size of the 'rest' images alone tells the target with an AUC of 1.00" in warning
        )


def exported(change, image):
    """Return a map as another export of the same scan might look."""
    if change == "jpeg":
        content = io.BytesIO()
        image.save(content, "JPEG", quality=30)
        return Image.open(content).convert("RGB")
    if change == "noise":
        pixels = np.asarray(image) + np.random.default_rng(0).normal(0, 8, (*image.size, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if change == "moved":
        return Image.fromarray(np.roll(np.asarray(image), 1, axis=1))
    if change == "labelled":
        ImageDraw.Draw(image).text((2, 2), "again", fill="white")
        return image
    return image.resize((150, 150), Image.Resampling.BILINEAR)


def facts_of(folder, images):
    paths = [folder / f"{at}.png" for at in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    return inspect_images(paths)


def phantoms(count, size=228, name="reserve"):
    maps = draw_patients(range(count), seed=0, size=size, inputs=(name,)).images[name]
    return [Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))) for pixels in maps]


class TestTwins:
    """One scan under two ids, exported in two ways."""

    @pytest.mark.parametrize("change", ["jpeg", "noise", "moved", "labelled", "resized"])
    @pytest.mark.parametrize("name", ["rest", "reserve"])
    def test_a_scan_exported_again_is_found_on_both_sides_of_the_split(
        self, tmp_path, change, name
    ):
        images = phantoms(6, name=name)
        images += [exported(change, images[at].copy()) for at in (1, 3, 4)]
        facts = {name: facts_of(tmp_path, images)}
        folds = np.array([0, 0, 0, 1, -1, 1, -1, 0, -1])
        rows = np.arange(9) + 2
        in_test, in_folds = find_twins(facts, folds, rows)
        assert in_test.startswith("1 development patient (row 3) has nearly the same picture")
        assert "of the test set" in in_test
        assert in_folds.startswith("2 development patients (rows 5, 9) have nearly the same")
        assert "of another fold" in in_folds

    def test_twins_in_one_fold_or_both_in_the_test_set_harm_nobody(self, tmp_path):
        image = phantoms(1)[0]
        facts = {"rest": facts_of(tmp_path, [image, exported("jpeg", image)])}
        assert find_twins(facts, np.array([2, 2]), np.arange(2)) == []
        assert find_twins(facts, np.array([-1, -1]), np.arange(2)) == []

    def test_one_map_of_several_suffices(self, tmp_path):
        images = phantoms(4)
        (tmp_path / "rest").mkdir()
        facts = {
            "rest": facts_of(tmp_path / "rest", [images[0], exported("jpeg", images[0])]),
            "stress": facts_of(tmp_path, images[2:]),
        }
        assert len(find_twins(facts, np.array([0, -1]), np.arange(2))) == 1

    def test_blocks_find_what_a_plain_loop_finds(self, monkeypatch):
        generator = np.random.default_rng(0)
        base = generator.integers(0, 256, (40, 1024)) // 40 + generator.integers(0, 200, (40, 1))
        thumbnails = np.repeat(base, 2, axis=0) + generator.integers(-2, 3, (80, 1024))
        thumbnails = thumbnails.clip(0, 255).astype(np.uint8)[generator.permutation(80)]
        folds = generator.integers(-1, 3, 80)
        pictures = cohort.reading.suspicions._inner(thumbnails)
        expected = np.zeros((2, 80), dtype=bool)
        for one in range(80):
            for other in range(80):
                near = np.sqrt(np.mean((pictures[one] - pictures[other]) ** 2)) < 2
                if near and folds[one] != folds[other]:
                    expected[int(folds[other] >= 0), one] = True
        assert 20 < expected.sum() < 120
        for block in (1, 7, 2048):
            monkeypatch.setattr(cohort.reading.suspicions, "_BLOCK", block)
            assert np.array_equal(cohort.reading.suspicions._has_twin(thumbnails, folds), expected)

    def test_the_small_phantoms_have_none(self, phantom):
        a_study = study(path=str(phantom), inputs=list(INPUTS), split={"test": 0.2})
        assert read_cohort(a_study, phantom.parent).warnings == ()

    @pytest.mark.slow
    def test_nor_has_a_cohort_of_the_papers_size(self, tmp_path):
        facts = {"rest": facts_of(tmp_path, phantoms(944, name="rest"))}
        assert find_twins(facts, np.arange(944), np.arange(944)) == []

    def test_nothing_else_is_told_of_test_patients(self, tmp_path):
        frame = table()
        folder = write(tmp_path, frame)
        inside = set(read_cohort(study(), folder).development.ids)
        own = next(row for row in range(40) if frame["patient_id"][row] in inside)
        sealed = next(row for row in range(40) if frame["patient_id"][row] not in inside)
        image = Image.open(folder / frame["rest"][own])
        image.resize((32, 32), Image.Resampling.NEAREST).save(folder / frame["rest"][sealed])
        (warning,) = read_cohort(study(), folder).warnings
        assert f"(row {own + 2}) has nearly the same picture as a patient of the test" in warning
        assert f"row {sealed + 2}" not in warning
        assert "SECRET" not in warning


class TestWritingOutsideTheDisc:
    def warnings(self, folder, draw, patients=30):
        """Warnings of a cohort of phantoms on whose map number ``at`` ``draw(pen, at)`` drew."""
        frame = table(patients)
        write(folder, frame)
        for at, image in enumerate(phantoms(patients, 160)):
            draw(ImageDraw.Draw(image), at)
            image.save(folder / frame["rest"][at])
        return frame, read_cohort(study(), folder).warnings

    def test_names_that_differ_are_found(self, tmp_path):
        _, (warning,) = self.warnings(
            tmp_path, lambda pen, at: pen.text((1, 1), f"M{at * 7919 % 1000}", fill="white")
        )
        assert re.search(
            r"development images of 'rest' \(rows \d+, .*\) differ from the others outside", warning
        )

    def test_a_name_on_some_maps_is_found_and_counted(self, tmp_path):
        frame, (warning,) = self.warnings(
            tmp_path, lambda pen, at: at % 3 or pen.text((1, 148), "J. Doe", fill="white")
        )
        inside = read_cohort(study(), tmp_path).development.ids
        named = [at + 2 for at in range(0, 30, 3) if frame["patient_id"][at] in inside]
        rows = ", ".join(map(str, named))
        assert warning.startswith(
            f"{len(named)} of 22 development images of 'rest' (rows {rows}) differ"
        )

    def test_what_all_maps_share_is_no_warning(self, tmp_path):
        def same(pen, _):
            pen.rectangle((0, 0, 159, 3), fill="white")
            pen.text((1, 6), "REST", fill="white")

        assert self.warnings(tmp_path, same)[1] == ()
