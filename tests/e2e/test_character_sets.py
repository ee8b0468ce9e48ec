"""Character sets (PS3.3 C.12.1.1.2, PS3.5 6.1.2 and annexes H to K) end to end: names in every set and script found from queries in other sets,
by each of their component groups, and answered in one single-valued set; what was stored stays as it was."""

from io import BytesIO

import pydicom
import pytest
from conftest import FIXTURES
from harness import part10, scu
from harness.node import Node
from harness.raw import Raw, c_find, explicit
from pydicom.uid import generate_uid

#: File → its patient's name, as the documentation of the files has it.
NAMES = {
    "GH1301": "Wang^XiaoDong=王^小东", "chrArab": "قباني^لنزار", "chrFren": "Buc^Jérôme", "chrFrenMulti": "Buc^Jérôme",
    "chrGB2312": "Zhang^XiaoDong=张^小东", "chrGerm": "Äneas^Rüdiger", "chrGreek": "Διονυσιος", "chrH31": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrH32": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "chrHbrw": "שרון^דבורה", "chrI2": "Hong^Gildong=洪^吉洞=홍^길동", "chrJapMulti": "やまだ^たろう",
    "chrJapMultiExplicitIR6": "やまだ^たろう", "chrKoreanMulti": "김희중", "chrRuss": "Люкceмбypг", "chrX1": "Wang^XiaoDong=王^小東",
    "chrX2": "Wang^XiaoDong=王^小东",
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def archive(request, tmp_path_factory):
    """One study for each file, whose Accession Number is the file's name."""
    from conftest import drop_database, new_database

    url, name = (None, None) if request.param == "sqlite" else new_database()
    folder = tmp_path_factory.mktemp("charsets")
    destination = scu.Destination(folder / "destination")
    with Node(folder / "node", url, destinations={destination.title: destination.port}) as node:
        files = {}
        for file in NAMES:
            files[file] = folder / f"{file}.dcm"
            place(FIXTURES / "charset" / f"{file}.dcm", files[file], file)
        statuses = scu.store(node, list(files.values()))
        assert set(statuses.values()) == {0x0000}
        yield node, files, destination
    if name:
        drop_database(name)


def place(source, target, name):
    """A copy in a study of its own. The elements that tell names and sets are not decoded, and so not written anew."""
    data_set = pydicom.dcmread(source, force=True)
    # Some of the files have no SOP class.
    data_set.SOPClassUID = data_set.get("SOPClassUID") or "1.2.840.10008.5.1.4.1.1.7"
    data_set.SOPInstanceUID, data_set.SeriesInstanceUID, data_set.StudyInstanceUID = generate_uid(), generate_uid(), generate_uid()
    data_set.PatientID = data_set.AccessionNumber = name
    data_set.file_meta.MediaStorageSOPClassUID, data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPClassUID, data_set.SOPInstanceUID
    data_set.save_as(target)


def names(node, key, charset=None):
    """The files whose names match a key that was written in a character set, and the answers by file."""
    more = {"SpecificCharacterSet": charset} if charset else {}
    answers, status = scu.find(node, "STUDY", **more, PatientName=key, AccessionNumber="", StudyInstanceUID="")
    assert status == 0x0000
    return {str(answer.AccessionNumber): answer for answer in answers}


def groups(name):
    """The component groups of a name without the empty ones at its end."""
    return str(name).rstrip("=")


def test_every_name_is_answered_in_one_single_valued_set(archive):
    """PS3.4 C.4.1.1.3.1: whatever the sets of the objects; peers refuse code extensions in answers."""
    node, _, _ = archive
    answers = names(node, "")
    assert set(answers) == set(NAMES)
    for file, answer in answers.items():
        fits = all(ord(c) < 0x100 for c in NAMES[file])
        assert answer.SpecificCharacterSet == ("ISO_IR 100" if fits else "ISO_IR 192"), file
        assert groups(answer.PatientName) == NAMES[file], file


def test_an_answer_in_ascii_has_a_set_only_if_it_was_asked_for(archive):
    node, _, _ = archive
    (answer,), _ = scu.find(node, "STUDY", AccessionNumber="chrGreek", StudyInstanceUID="")
    assert "SpecificCharacterSet" not in answer
    (answer,), _ = scu.find(node, "STUDY", SpecificCharacterSet="", AccessionNumber="chrGreek", StudyInstanceUID="")
    assert answer.SpecificCharacterSet in ("ISO_IR 100", "ISO_IR 192")


@pytest.mark.parametrize("key, charset, expected", [
    # The object's own set, another one, UTF-8
    ("Buc^Jérôme", "ISO_IR 100", ["chrFren", "chrFrenMulti"]),
    ("Buc^Jérôme", "ISO_IR 192", ["chrFren", "chrFrenMulti"]),
    ("Buc^Jérôme", "GB18030", ["chrFren", "chrFrenMulti"]),
    ("BUC^JEROME", None, ["chrFren", "chrFrenMulti"]),
    ("äneas^rüdiger", "ISO_IR 101", ["chrGerm"]),
    ("Διονυσιος", "ISO_IR 126", ["chrGreek"]),
    ("διονυσιοσ", "ISO_IR 192", ["chrGreek"]),
    ("Люкceмбypг", "ISO_IR 144", ["chrRuss"]),
    ("قباني*", "ISO_IR 127", ["chrArab"]),
    ("שרון*", "ISO_IR 138", ["chrHbrw"]),
    # Code extensions in the key (PS3.5 H, I, K)
    ("=山田^太郎", ["", "ISO 2022 IR 87"], ["chrH31", "chrH32"]),
    ("ﾔﾏﾀﾞ^ﾀﾛｳ", ["ISO 2022 IR 13", "ISO 2022 IR 87"], ["chrH32"]),
    ("=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"], ["chrI2"]),
    ("=张^小东", ["", "ISO 2022 IR 58"], ["chrGB2312"]),
    # One group alone: alphabetic, ideographic, phonetic (PS3.5 6.2.1)
    ("Yamada^Tarou", None, ["chrH31"]),
    ("=山田*", "ISO_IR 192", ["chrH31", "chrH32"]),
    ("==やまだ^たろう", "ISO_IR 192", ["chrH31", "chrH32"]),
    ("やまだ^たろう", "ISO_IR 192", ["chrH31", "chrH32", "chrJapMulti", "chrJapMultiExplicitIR6"]),
    ("Wang*=王*", "ISO_IR 192", ["GH1301", "chrX1", "chrX2"]),
    ("Hong*=張*", "ISO_IR 192", []),
    # A wildcard is a character, not a byte (PS3.4 C.2.2.2.4)
    ("Buc^J?r?me", None, ["chrFren", "chrFrenMulti"]),
    ("Buc^J??r??me", None, []),
    ("=王^小?", "ISO_IR 192", ["GH1301", "chrX1", "chrX2"]),
    ("=王^小??", "ISO_IR 192", []),
    ("?희중", "ISO_IR 192", ["chrKoreanMulti"]),
], ids=str)
def test_a_name_is_found_from_any_set_by_any_of_its_groups(archive, key, charset, expected):
    node, _, _ = archive
    assert sorted(names(node, key, charset)) == expected


@pytest.mark.parametrize("key", ["Buc^Jérôme".encode("latin-1"), "Buc^Jérôme".encode()], ids=["Latin-1", "UTF-8"])
def test_undeclared_bytes_in_a_key_are_taken_for_what_they_can_be(archive, key):
    """Queries of devices that forget Specific Character Set (PS3.4 C.2.2.2 expects it)."""
    node, _, _ = archive
    identifier = explicit(0x0008, 0x0050, "SH", b"") + explicit(0x0008, 0x0052, "CS", b"STUDY") + explicit(0x0010, 0x0010, "PN", key)
    found = set()
    with Raw(node) as raw:
        raw.associate()
        raw.message(5, c_find(), identifier)
        while True:
            fields, content = raw.response()
            if not content:
                break
            found.add(str(pydicom.filereader.read_dataset(BytesIO(content), False, True).AccessionNumber))
    assert fields[0x0900] == b"\0\0"
    assert found == {"chrFren", "chrFrenMulti"}


def test_stored_bytes_are_untouched(archive):
    """What goes out is what came in, escape sequences and all."""
    node, files, destination = archive
    with destination:
        answers, _ = scu.find(node, "STUDY", AccessionNumber="", StudyInstanceUID="")
        for answer in answers:
            final, _ = scu.move(node, destination.title, StudyInstanceUID=answer.StudyInstanceUID)[-1]
            assert final.Status == 0x0000, answer.AccessionNumber
        digests = destination.digests()
    assert digests == {str(scu.meta(path).MediaStorageSOPInstanceUID): part10.on_the_wire(path) for path in files.values()}
