"""PDUs and command sets as pynetdicom encodes them, for scp/tests/vectors.rs to decode: one of every type, item and message.

    tests/.venv/bin/python -m harness.vectors > scp/tests/vectors/theirs.tsv     (in tests/e2e)

The values are those of scp/tests/vectors.rs. Where an acceptor is known to leave out what the standard asks for, the PDU is made here by hand.
"""

import struct
from io import BytesIO

from pynetdicom import build_context, build_role, dimse_messages, dimse_primitives, pdu, pdu_primitives

from . import raw

CT, INSTANCE = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5"
FIND, MOVE, GET = ("1.2.840.10008.5.1.4.1.2.2." + end for end in "123")
COMMITMENT = "1.2.840.10008.1.20.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

COUNTS = {"NumberOfRemainingSuboperations": 4, "NumberOfCompletedSuboperations": 3, "NumberOfFailedSuboperations": 2, "NumberOfWarningSuboperations": 1}
FINAL = {name: count for name, count in COUNTS.items() if "Remaining" not in name}

# name: message, fields; "Identifier" or "DataSet" says that one follows.
MESSAGES = {
    "c_echo_rq": ("C_ECHO", {"MessageID": 7, "AffectedSOPClassUID": raw.VERIFICATION}),
    "c_echo_rsp": ("C_ECHO", {"MessageIDBeingRespondedTo": 8, "AffectedSOPClassUID": raw.VERIFICATION, "Status": 0x0000}),
    "c_store_rq": ("C_STORE", {"MessageID": 7, "AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE, "Priority": 2, "DataSet": True}),
    "c_store_rq_moved": ("C_STORE", {"MessageID": 65535, "AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE, "Priority": 0,
                                     "MoveOriginatorApplicationEntityTitle": "VIEWER1", "MoveOriginatorMessageID": 9, "DataSet": True}),
    "c_store_rsp": ("C_STORE", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE, "Status": 0x0000}),
    "c_store_rsp_failed": ("C_STORE", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE, "Status": 0xA700,
                                       "ErrorComment": "the disk is full"}),
    "c_find_rq": ("C_FIND", {"MessageID": 7, "AffectedSOPClassUID": FIND, "Priority": 1, "Identifier": True}),
    "c_find_rsp": ("C_FIND", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": FIND, "Status": 0x0000}),
    "c_find_rsp_failed": ("C_FIND", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": FIND, "Status": 0xA900, "OffendingElement": 0x00080052,
                                     "ErrorComment": "no level"}),
    "c_move_rq": ("C_MOVE", {"MessageID": 7, "AffectedSOPClassUID": MOVE, "Priority": 0, "MoveDestination": "DEST", "Identifier": True}),
    "c_move_rsp": ("C_MOVE", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": MOVE, "Status": 0xFF00, **COUNTS}),
    "c_move_rsp_final": ("C_MOVE", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": MOVE, "Status": 0xB000, "ErrorComment": "2 failed", **FINAL}),
    "c_get_rq": ("C_GET", {"MessageID": 7, "AffectedSOPClassUID": GET, "Priority": 2, "Identifier": True}),
    "c_get_rsp": ("C_GET", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": GET, "Status": 0xFE00, **COUNTS}),
    "c_cancel_rq": ("C_CANCEL", {"MessageIDBeingRespondedTo": 7}),
    "n_action_rq": ("N_ACTION", {"MessageID": 7, "RequestedSOPClassUID": COMMITMENT, "RequestedSOPInstanceUID": COMMITMENT + ".1", "ActionTypeID": 1,
                                 "ActionInformation": True}),
    "n_action_rsp": ("N_ACTION", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": COMMITMENT, "AffectedSOPInstanceUID": COMMITMENT + ".1", "ActionTypeID": 1,
                                  "Status": 0x0000}),
    "n_event_report_rq": ("N_EVENT_REPORT", {"MessageID": 7, "AffectedSOPClassUID": COMMITMENT, "AffectedSOPInstanceUID": COMMITMENT + ".1", "EventTypeID": 2,
                                             "EventInformation": True}),
    "n_event_report_rsp": ("N_EVENT_REPORT", {"MessageIDBeingRespondedTo": 7, "AffectedSOPClassUID": COMMITMENT, "AffectedSOPInstanceUID": COMMITMENT + ".1",
                                              "EventTypeID": 2, "Status": 0x0000}),
    "n_get_rq": ("N_GET", {"MessageID": 7, "RequestedSOPClassUID": CT, "RequestedSOPInstanceUID": INSTANCE}),
    "n_set_rq": ("N_SET", {"MessageID": 7, "RequestedSOPClassUID": CT, "RequestedSOPInstanceUID": INSTANCE, "ModificationList": True}),
    "n_create_rq": ("N_CREATE", {"MessageID": 7, "AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE, "AttributeList": True}),
    "n_delete_rq": ("N_DELETE", {"MessageID": 7, "RequestedSOPClassUID": CT, "RequestedSOPInstanceUID": INSTANCE}),
}

DATA_SETS = ("DataSet", "Identifier", "ActionInformation", "EventInformation", "ModificationList", "AttributeList")


def command_set(name):
    """A message of the table, encoded by pynetdicom: its command set only."""
    message, fields = MESSAGES[name]
    primitive = getattr(dimse_primitives, message)()
    for field, value in fields.items():
        setattr(primitive, field, BytesIO(b"\x08\0\x18\0\0\0\0\0") if field in DATA_SETS else value)
    kind = "RSP" if "_rsp" in name else "RQ"
    encoded = getattr(dimse_messages, f"{message}_{kind}")()
    encoded.primitive_to_message(primitive)
    values = [value for data in encoded.encode_msg(1, 16384) for _, value in data.presentation_data_value_list]
    return b"".join(value[1:] for value in values if value[0] & 1)


def read_command_set(name, content):
    """The fields of the table, as pynetdicom reads them out of a command set."""
    message, fields = MESSAGES[name]
    decoded = dimse_messages.DIMSEMessage()
    values = [[1, b"\x03" + content]]
    if any(field in DATA_SETS for field in fields):
        values.append([1, b"\x02\x08\0\x18\0\0\0\0\0"])
    data = pdu_primitives.P_DATA()
    data.presentation_data_value_list = values
    assert decoded.decode_msg(data), "more is expected"
    primitive = decoded.message_to_primitive()
    assert type(primitive).__name__ == message
    return {field: getattr(primitive, field) for field in fields if field not in DATA_SETS}


def proposal(*items, calling="CT1", called="FILMROOM"):
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    contexts = [build_context(raw.VERIFICATION, [IMPLICIT]), build_context(CT, [EXPLICIT, "1.2.840.10008.1.2.4.50"])]
    for context, number in zip(contexts, (1, 3)):
        context.context_id = number
    primitive.presentation_context_definition_list = contexts
    length, implementation, version = (getattr(pdu_primitives, name)() for name in
                                       ("MaximumLengthNotification", "ImplementationClassUIDNotification", "ImplementationVersionNameNotification"))
    length.maximum_length_received = 16382
    implementation.implementation_class_uid = "1.2.3.4"
    version.implementation_version_name = "VECTORS"
    primitive.user_information = [length, implementation, version, *items]
    encoded = pdu.A_ASSOCIATE_RQ()
    encoded.from_primitive(primitive)
    return encoded.encode()


def window(invoked, performed):
    item = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked, item.maximum_number_operations_performed = invoked, performed
    return item


def identity(kind, primary, secondary=b"", response=False):
    item = pdu_primitives.UserIdentityNegotiation()
    item.user_identity_type, item.primary_field, item.positive_response_requested = kind, primary, response
    if secondary:
        item.secondary_field = secondary
    return item


def extended(sop_class, information):
    item = pdu_primitives.SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = sop_class, information
    return item


def common_extended(sop_class, service_class, related):
    item = pdu_primitives.SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid, item.related_general_sop_class_identification = sop_class, service_class, related
    return item


def answer(*results):
    """An A-ASSOCIATE-AC with the results as they are given, well formed or not."""
    information = raw.item(0x51, struct.pack(">I", 16384)) + raw.item(0x52, b"1.2.3.4") + raw.item(0x55, b"VECTORS") + raw.role(CT, 0, 1)
    body = struct.pack(">HH", 1, 0) + raw.title("DEST") + raw.title("FILMROOM") + bytes(32) + raw.item(0x10, b"1.2.840.10008.3.1.1.1")
    return raw.pdu(raw.ASSOCIATE_AC, body + b"".join(raw.item(0x21, result) for result in results) + raw.item(0x50, information))


def whole(kind, primitive):
    encoded = kind()
    encoded.from_primitive(primitive)
    return encoded.encode()


def data(*values):
    primitive = pdu_primitives.P_DATA()
    primitive.presentation_data_value_list = list(values)
    return whole(pdu.P_DATA_TF, primitive)


def rejection(result, source, reason):
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = result, source, reason
    return whole(pdu.A_ASSOCIATE_RJ, primitive)


def release(result=None):
    primitive = pdu_primitives.A_RELEASE()
    primitive.result = result
    return whole(pdu.A_RELEASE_RP if result else pdu.A_RELEASE_RQ, primitive)


def abort(primitive, field, value):
    setattr(primitive, field, value)
    return whole(pdu.A_ABORT_RQ, primitive)


def theirs():
    """name → bytes"""
    accepted = bytes([1, 0, 0, 0]) + raw.item(0x40, IMPLICIT.encode())
    return {
        "a_associate_rq": proposal(),
        "a_associate_rq_window": proposal(window(5, 5)),
        "a_associate_rq_role": proposal(build_role(CT, scu_role=False, scp_role=True)),
        "a_associate_rq_user": proposal(identity(1, b"radiologist", response=True)),
        "a_associate_rq_user_and_passcode": proposal(identity(2, b"radiologist", b"p4ssw0rd")),
        "a_associate_rq_extended": proposal(extended(FIND, b"\x01\x00\x01")),
        "a_associate_rq_common_extended": proposal(common_extended(CT, "1.2.840.10008.4.2", ["1.2.840.10008.5.1.4.1.1.2.1"])),
        "a_associate_ac": answer(accepted, bytes([3, 0, 4, 0]) + raw.item(0x40, EXPLICIT.encode())),
        "a_associate_ac_empty_syntax": answer(accepted, bytes([3, 0, 3, 0]) + raw.item(0x40, b"")),
        "a_associate_ac_no_syntax": answer(accepted, bytes([3, 0, 3, 0])),
        "a_associate_ac_unknown_result": answer(accepted, bytes([3, 0, 9, 0]) + raw.item(0x40, EXPLICIT.encode())),
        "a_associate_rj": rejection(1, 1, 7),
        "a_associate_rj_transient": rejection(2, 3, 2),
        "p_data_tf": data([1, b"\x03command"], [1, b"\x00da"], [1, b"\x02ta"]),
        "a_release_rq": release(),
        "a_release_rp": release("affirmative"),
        "a_abort": abort(pdu_primitives.A_ABORT(), "abort_source", 0),
        "a_p_abort": abort(pdu_primitives.A_P_ABORT(), "provider_reason", 4),
        **{name: command_set(name) for name in MESSAGES},
    }


if __name__ == "__main__":
    for name, content in theirs().items():
        print(f"{name}\t{content.hex()}")
