"""The same SOP Instance UID again: what is served, what is superseded, what is quarantined, and that no acknowledged byte is lost."""

import pytest
from harness import dcmtk, part10, sample, scu, stream
from harness.node import Node
from harness.ports import wait_until

UID, IMAGE = next(stream.images(1))


def variant(n):
    """The same image with other pixels: the last bytes differ."""
    return IMAGE[:-4] + n.to_bytes(4, "little")


def at_once(node, contents, callings):
    senders = [stream.Sender(node, [(UID, content)], calling=calling) for content, calling in zip(contents, callings)]
    stream.send_all(senders)
    assert all(sender.error is None for sender in senders), [sender.error for sender in senders]
    return [sender.answered[0] for sender in senders]


def served_digest(node, tmp_path):
    dcmtk.getscu(node, tmp_path / "got", StudyInstanceUID=stream.STUDY)
    (path,) = (tmp_path / "got").iterdir()
    return part10.digest(path)


def kept_digests(node):
    """None while a file goes that is not kept."""
    try:
        return {part10.digest(path) for path in node.hot_files()}
    except FileNotFoundError:
        return None


def test_sixteen_times_the_same_bytes_at_once_is_one_image(node, tmp_path):
    answers = at_once(node, [IMAGE] * 16, ["CT1"] * 16)
    assert {status for _, status, _ in answers} == {0x0000}
    assert node.status()["instances"] == 1
    assert node.quarantine() == []
    assert served_digest(node, tmp_path) == stream.digest(IMAGE)


def test_sixteen_different_ones_from_one_ae_are_corrections_and_all_are_kept(node, tmp_path):
    contents = [variant(n) for n in range(16)]
    answers = at_once(node, contents, ["CT1"] * 16)
    assert {status for _, status, _ in answers} == {0x0000}
    assert node.status()["instances"] == 1
    digests = {stream.digest(content) for content in contents}
    assert served_digest(node, tmp_path) in digests
    assert kept_digests(node) == digests


def test_different_ones_from_two_aes_one_ae_is_served_the_other_quarantined(node, tmp_path):
    contents = [variant(n) for n in range(16)]
    callings = ["CT1", "CT2"] * 8
    answers = at_once(node, contents, callings)
    by_ae = {ae: {status for (_, status, _), calling in zip(answers, callings) if calling == ae} for ae in ("CT1", "CT2")}
    winner = "CT1" if by_ae["CT1"] == {0x0000} else "CT2"
    loser = "CT2" if winner == "CT1" else "CT1"
    assert by_ae[winner] == {0x0000}
    assert all(status & 0xF000 == 0xC000 for status in by_ae[loser]), by_ae
    assert all(comment and len(comment) <= 64 for _, status, comment in answers if status)
    assert node.status()["instances"] == 1
    assert len(node.quarantine()) == 8
    # Nobody's bytes are gone: the winner's were acknowledged, the loser's wait for a person.
    assert kept_digests(node) == {stream.digest(content) for content in contents}
    acknowledged = {stream.digest(content) for content, calling in zip(contents, callings) if calling == winner}
    assert served_digest(node, tmp_path) in acknowledged


def test_the_same_uid_in_another_study_is_quarantined(node):
    assert at_once(node, [IMAGE], ["CT1"])[0][1] == 0x0000
    other = IMAGE.replace(stream.STUDY.encode(), stream.STUDY.encode()[:-3] + b"999")
    status = at_once(node, [other], ["CT1"])[0][1]
    assert status & 0xF000 == 0xC000
    (waiting,) = node.quarantine()
    assert waiting["sop_instance_uid"] == UID
    answers, _ = scu.find(node, "STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
    assert [int(a.NumberOfStudyRelatedInstances) for a in answers] == [1]


def test_a_person_accepts_or_discards_what_is_quarantined(node, tmp_path):
    at_once(node, [IMAGE], ["CT1"])
    at_once(node, [variant(1)], ["CT2"])
    at_once(node, [variant(2)], ["CT3"])
    by_source = {waiting["source"]: waiting["object"] for waiting in node.quarantine()}
    assert set(by_source) == {"CT2", "CT3"}
    assert "CT2" in node.command("quarantine", "show", by_source["CT2"]).stdout
    node.command("quarantine", "accept", by_source["CT2"])
    node.command("quarantine", "discard", by_source["CT3"])
    assert node.quarantine() == []
    assert served_digest(node, tmp_path) == stream.digest(variant(1))
    # The discarded bytes leave the disk; the superseded ones stay.
    wait_until(lambda: kept_digests(node) == {stream.digest(IMAGE), stream.digest(variant(1))}, "the discarded file to go")


@pytest.mark.parametrize("policy, kept", [("keep", True), ("reject", False)])
def test_policies_that_refuse_corrections(tmp_path, policy, kept):
    node = Node(tmp_path / "node", sections=f'[[ae]]\ntitle = "CT1"\nduplicates = "{policy}"\n[cold]\nurl = "file://{tmp_path}/cold"\ncheck_interval = "100ms"\n')
    with node:
        assert at_once(node, [IMAGE], ["CT1"])[0][1] == 0x0000
        assert at_once(node, [variant(1)], ["CT1"])[0][1] & 0xF000 == 0xC000
        assert at_once(node, [IMAGE], ["CT1"])[0][1] == 0x0000
        assert served_digest(node, tmp_path) == stream.digest(IMAGE)
        expected = {stream.digest(IMAGE)} | ({stream.digest(variant(1))} if kept else set())
        wait_until(lambda: kept_digests(node) == expected, "what is not kept to go")
        assert len(node.quarantine()) == int(kept)


def test_a_resend_after_the_hot_file_was_lost_becomes_the_copy(node, tmp_path):
    at_once(node, [IMAGE], ["CT1"])
    (path,) = node.hot_files()
    path.unlink()
    assert at_once(node, [IMAGE], ["CT1"])[0][1] == 0x0000
    assert served_digest(node, tmp_path) == stream.digest(IMAGE)
    assert node.status()["instances"] == 1


def test_an_image_resent_in_another_syntax_is_a_correction(node, tmp_path):
    first, second = (path for path in sorted((sample.FIXTURES / "ts").iterdir()) if path.name.startswith(("LittleEndianExplicit", "RLELossless")))
    assert scu.store(node, [first])[first] == 0x0000
    assert scu.store(node, [second])[second] == 0x0000
    assert node.status()["instances"] == 1
    assert len(node.hot_files()) == 2
