//! Parts of a message: coded values, participants, objects (PS3.15 A.5.1, A.5.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::audit::xml::Xml;

/// Code, coding scheme, meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Code(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

pub(super) const ACTIVITY: Code = Code("110100", "DCM", "Application Activity");
pub(super) const ACCESSED: Code = Code("110103", "DCM", "DICOM Instances Accessed");
pub(super) const TRANSFERRED: Code = Code("110104", "DCM", "DICOM Instances Transferred");
pub(super) const APPLICATION: Code = Code("110150", "DCM", "Application");
pub(super) const LAUNCHER: Code = Code("110151", "DCM", "Application Launcher");
pub(super) const DESTINATION: Code = Code("110152", "DCM", "Destination Role ID");
pub(super) const SOURCE: Code = Code("110153", "DCM", "Source Role ID");
pub(super) const SOURCE_MEDIA: Code = Code("110155", "DCM", "Source Media");

/// A Patient ID where the objects have none: the field is mandatory.
const NO_PATIENT_ID: &str = "<none>";

impl Code {
    /// The element with this value.
    pub(super) fn write(self, xml: &mut Xml, element: &str) {
        let Code(code, scheme, meaning) = self;
        xml.empty(
            element,
            &[("csd-code", code), ("codeSystemName", scheme), ("originalText", meaning)],
        );
    }
}

/// Who took part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Participant {
    id: String,
    alternative: Option<String>,
    requestor: bool,
    /// Type (1 machine name, 2 IP address) and where
    network: Option<(String, String)>,
    role: Option<Code>,
    media: bool,
}

impl Participant {
    /// An application: its AE title, or what there is to know it by.
    pub(super) fn process(id: &str, network: Option<(&str, &str)>) -> Participant {
        Participant {
            // Mandatory, and some associations give no title.
            id: if id.is_empty() { "(BLANK)".to_owned() } else { id.to_owned() },
            alternative: None,
            requestor: false,
            network: network.map(|(kind, place)| (kind.to_owned(), place.to_owned())),
            role: None,
            media: false,
        }
    }

    /// A person who works at an application.
    pub(super) fn person(name: &str, at: &str, network: Option<(&str, &str)>) -> Participant {
        Participant {
            alternative: Some(at.to_owned()),
            requestor: true,
            ..Participant::process(name, network)
        }
    }

    pub(super) fn requesting(self) -> Participant {
        Participant { requestor: true, ..self }
    }

    pub(super) fn on_media(self) -> Participant {
        Participant { media: true, ..self }
    }

    pub(super) fn in_role(self, role: Code) -> Participant {
        Participant { role: Some(role), ..self }
    }

    pub(super) fn write(&self, xml: &mut Xml) {
        let mut attributes = vec![("UserID", self.id.as_str())];
        attributes.extend(self.alternative.as_deref().map(|id| ("AlternativeUserID", id)));
        attributes.push(("UserIsRequestor", if self.requestor { "true" } else { "false" }));
        if let Some((kind, place)) = &self.network {
            attributes.push(("NetworkAccessPointID", place));
            attributes.push(("NetworkAccessPointTypeCode", kind));
        }
        xml.element("ActiveParticipant", &attributes, |xml| {
            if let Some(role) = self.role {
                role.write(xml, "RoleIDCode");
            }
            if self.media {
                xml.element("MediaIdentifier", &[], |xml| {
                    Code("110030", "DCM", "USB Disk Emulation").write(xml, "MediaType");
                });
            }
        });
    }
}

/// A study with so many instances; 0: not known.
pub(super) fn study(xml: &mut Xml, uid: &str, instances: u64) {
    let attributes = [
        ("ParticipantObjectID", uid),
        ("ParticipantObjectTypeCode", "2"),
        ("ParticipantObjectTypeCodeRole", "3"),
    ];
    xml.element("ParticipantObjectIdentification", &attributes, |xml| {
        Code("110180", "DCM", "Study Instance UID").write(xml, "ParticipantObjectIDTypeCode");
        xml.element("ParticipantObjectName", &[], |xml| xml.text(uid));
        if instances > 0 {
            xml.element("ParticipantObjectDescription", &[], |xml| {
                xml.empty("SOPClass", &[("NumberOfInstances", &instances.to_string())]);
            });
        }
    });
}

/// A patient by Patient ID; the audit has no name.
pub(super) fn patient(xml: &mut Xml, id: &str) {
    let id = if id.is_empty() { NO_PATIENT_ID } else { id };
    let attributes = [
        ("ParticipantObjectID", id),
        ("ParticipantObjectTypeCode", "1"),
        ("ParticipantObjectTypeCodeRole", "1"),
    ];
    xml.element("ParticipantObjectIdentification", &attributes, |xml| {
        Code("2", "RFC-3881", "Patient Number").write(xml, "ParticipantObjectIDTypeCode");
        xml.element("ParticipantObjectName", &[], |xml| xml.text(id));
    });
}

/// What an alert is about (A.5.3.11).
pub(super) fn subject(xml: &mut Xml, description: &str) {
    let attributes = [
        ("ParticipantObjectID", "association"),
        ("ParticipantObjectTypeCode", "2"),
        ("ParticipantObjectTypeCodeRole", "13"),
    ];
    xml.element("ParticipantObjectIdentification", &attributes, |xml| {
        Code("110182", "DCM", "Node ID").write(xml, "ParticipantObjectIDTypeCode");
        xml.element("ParticipantObjectName", &[], |xml| xml.text("association"));
        let value = STANDARD.encode(description);
        xml.empty("ParticipantObjectDetail", &[("type", "Alert Description"), ("value", &value)]);
    });
}
