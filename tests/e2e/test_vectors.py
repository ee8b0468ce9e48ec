"""Twins of pynetdicom's encoded PDUs and messages: what it encodes is in scp/tests/vectors/theirs.tsv, where ours decodes it; what ours encodes, it reads here,
field by field (PS3.8 9.3, PS3.7 D.3.3 and E.1)."""

import pytest
from harness import raw, vectors
from harness.node import ROOT
from pynetdicom import pdu


def read(name):
    lines = (ROOT / "scp/tests/vectors" / name).read_text().splitlines()
    return {vector: bytes.fromhex(content) for vector, content in (line.split("\t") for line in lines)}


OURS = read("ours.tsv")


def test_the_vectors_are_what_pynetdicom_encodes():
    assert read("theirs.tsv") == vectors.theirs()


@pytest.mark.parametrize("name", [name for name in vectors.MESSAGES if name in OURS])
def test_our_messages_are_read_field_by_field(name):
    _, fields = vectors.MESSAGES[name]
    assert vectors.read_command_set(name, OURS[name]) == {field: value for field, value in fields.items() if field not in vectors.DATA_SETS}


def decoded(kind, name):
    decoded = kind()
    decoded.decode(OURS[name])
    assert decoded.encode() == OURS[name], "written back, it is the same"
    return decoded


def user_information(associate):
    return {type(item).__name__: item for item in associate.user_information.user_data}


def test_our_proposal_is_read_field_by_field():
    proposal = decoded(pdu.A_ASSOCIATE_RQ, "a_associate_rq")
    assert (proposal.calling_ae_title, proposal.called_ae_title, proposal.protocol_version) == ("FILMROOM", "DEST", 1)
    assert proposal.application_context_name == "1.2.840.10008.3.1.1.1"
    contexts = [(c.presentation_context_id, c.abstract_syntax, list(map(str, c.transfer_syntax))) for c in proposal.presentation_context]
    assert contexts == [(1, raw.VERIFICATION, [vectors.IMPLICIT]), (3, vectors.CT, [vectors.EXPLICIT, "1.2.840.10008.1.2.4.50"])]
    items = user_information(proposal)
    assert items["MaximumLengthSubItem"].maximum_length_received == 16382
    assert items["ImplementationClassUIDSubItem"].implementation_class_uid.is_valid
    assert items["ImplementationVersionNameSubItem"].implementation_version_name.startswith("FILMROOM")
    role = items["SCP_SCU_RoleSelectionSubItem"]
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (vectors.CT, 1, 1)
    assert len(items) == 4


def test_our_acceptance_is_read_field_by_field():
    acceptance = decoded(pdu.A_ASSOCIATE_AC, "a_associate_ac")
    results = [(c.presentation_context_id, c.result, str(c.transfer_syntax)) for c in acceptance.presentation_context]
    assert results == [(1, 0, vectors.IMPLICIT), (3, 0, vectors.EXPLICIT), (5, 4, vectors.IMPLICIT), (7, 3, vectors.IMPLICIT)]
    items = user_information(acceptance)
    assert items["MaximumLengthSubItem"].maximum_length_received == 131072
    role = items["SCP_SCU_RoleSelectionSubItem"]
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (vectors.CT, 1, 1)


@pytest.mark.parametrize("name, result, source, reason", [
    ("a_associate_rj_application", 1, 1, 2), ("a_associate_rj_calling", 1, 1, 3), ("a_associate_rj_called", 1, 1, 7),
    ("a_associate_rj_version", 1, 2, 2), ("a_associate_rj_full", 2, 3, 2),
])
def test_our_rejections_are_read(name, result, source, reason):
    rejection = decoded(pdu.A_ASSOCIATE_RJ, name)
    assert (rejection.result, rejection.source, rejection.reason_diagnostic) == (result, source, reason)
    assert rejection.result_str and rejection.source_str and rejection.reason_str


def test_our_release_and_aborts_are_read():
    decoded(pdu.A_RELEASE_RQ, "a_release_rq")
    decoded(pdu.A_RELEASE_RP, "a_release_rp")
    for name, source, reason in (("a_abort", 0, 0), ("a_p_abort", 2, 5)):
        abort = decoded(pdu.A_ABORT_RQ, name)
        assert (abort.source, abort.reason_diagnostic) == (source, reason)
