//! What each service answers with, and when: the table of the conformance statement. A build with debug assertions ends an association that
//! answers with anything else, so that the statement stays complete.

use super::{Response, Status};

/// What a response answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// C-ECHO (PS3.7 9.1.5)
    Echo,
    /// C-STORE (PS3.4 B.2.3)
    Store,
    /// C-FIND (PS3.4 C.4.1.1.4)
    Find,
    /// C-MOVE (PS3.4 C.4.2.1.5)
    Move,
    /// C-GET (PS3.4 C.4.3.1.4)
    Get,
    /// N-ACTION (PS3.4 J.3.2, PS3.7 10.1.4.1.10)
    Action,
    /// N-EVENT-REPORT, to us
    EventReport,
    /// Anything that we do not serve
    Unrecognized,
}

impl Operation {
    /// Its name in PS3.7.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Echo => "C-ECHO",
            Operation::Store => "C-STORE",
            Operation::Find => "C-FIND",
            Operation::Move => "C-MOVE",
            Operation::Get => "C-GET",
            Operation::Action => "N-ACTION",
            Operation::EventReport => "N-EVENT-REPORT",
            Operation::Unrecognized => "any other",
        }
    }
}

/// The statuses of a service's responses and what they mean here.
type Answers = &'static [(Status, &'static str)];

const CONTEXT: (Status, &str) = (
    Status::SopClassNotSupported,
    "the presentation context was not accepted, or is for another SOP class or service",
);
const ROLE: (Status, &str) = (Status::NotAuthorized, "the requestor was not accepted as SCU of the SOP class");
const CANCELLED: (Status, &str) = (Status::Cancel, "C-CANCEL was heard; no sub-operation or answer follows");
const IDENTIFIER: (Status, &str) = (
    Status::DoesNotMatchSopClass,
    "a level that is missing or unknown, a unique key that is missing or none, a value that cannot be read; Offending Element and Error Comment say which",
);
const GARBAGE: (Status, &str) = (
    Status::CannotUnderstand,
    "the identifier cannot be read or is too long; or the catalogue failed",
);
const PENDING: (Status, &str) = (
    Status::Pending,
    "sub-operations go on; sent at once, after progress, and at least every `retrieve.pending_interval`",
);
const NOTHING_SENT: (Status, &str) = (
    Status::CannotPerformSubOperations,
    "no image could be sent; Failed SOP Instance UID List and Error Comment say which and why",
);
const UNCOUNTED: (Status, &str) = (
    Status::CannotCountMatches,
    "the search took too long, or the database is not there: try again later",
);
const PARTLY: (Status, &str) = (
    Status::WarningSubOperations,
    "some images failed or were answered with a warning; Failed SOP Instance UID List and Error Comment say which and why",
);
const ALL_SENT: (Status, &str) = (Status::Success, "every image was answered with Success; or nothing matched");

/// Service by service.
pub const ANSWERS: &[(Operation, Answers)] = &[
    (Operation::Echo, &[(Status::Success, "always")]),
    (
        Operation::Store,
        &[
            (
                Status::Success,
                "stored: durable on disk, findable, retrievable; or the same bytes are here already; or a correction by the same AE",
            ),
            (
                Status::OutOfResources,
                "the disk is full to its reserve, disk or database failed, the node is stopping: try again later",
            ),
            (
                Status::DoesNotMatchSopClass,
                "Study, Series or SOP Instance UID is missing or differs from the command's; or the SOP Class UID does",
            ),
            (
                Status::CannotUnderstand,
                "the data set cannot be read: cut short, nested too deep, lengths that contradict each other",
            ),
            (
                Status::DuplicateRefused,
                "the SOP Instance UID is here with other bytes, and the newcomer is in quarantine or refused; Error Comment says why",
            ),
            (
                Status::Withdrawn,
                "a rejection note withdraws the instance, and came first: it is kept, out of service; Error Comment has the note's title",
            ),
            (
                Status::Deleted,
                "the instance was deleted here on purpose, and is not accepted again; Error Comment has the day",
            ),
            (
                Status::InvalidSopInstance,
                "the Affected SOP Instance UID is no UID, or longer than 64 characters",
            ),
            CONTEXT,
            ROLE,
        ],
    ),
    (
        Operation::Find,
        &[
            (Status::Success, "every answer was sent"),
            (Status::Pending, "an answer"),
            (Status::PendingOptionalKeys, "an answer, and a key with a value was not matched"),
            CANCELLED,
            (
                Status::OutOfResources,
                "more than `dicom.find_max_answers` matches, longer than `dicom.find_timeout`, or the database is not there; no answer was sent",
            ),
            IDENTIFIER,
            GARBAGE,
            CONTEXT,
            ROLE,
        ],
    ),
    (
        Operation::Move,
        &[
            ALL_SENT,
            PENDING,
            PARTLY,
            CANCELLED,
            UNCOUNTED,
            NOTHING_SENT,
            (Status::MoveDestinationUnknown, "the destination is not listed, or has no address"),
            IDENTIFIER,
            GARBAGE,
            CONTEXT,
            (
                Status::NotAuthorized,
                "the AE may not name this destination; or it was not accepted as SCU of the SOP class",
            ),
        ],
    ),
    (
        Operation::Get,
        &[
            ALL_SENT,
            PENDING,
            PARTLY,
            CANCELLED,
            UNCOUNTED,
            NOTHING_SENT,
            IDENTIFIER,
            GARBAGE,
            CONTEXT,
            ROLE,
        ],
    ),
    (
        Operation::Action,
        &[
            (Status::Success, "the request is on record and will be reported"),
            (
                Status::ProcessingFailure,
                "the action information cannot be read; or the catalogue failed",
            ),
            (Status::NoSuchInstance, "the Requested SOP Instance UID is not the well-known one"),
            (
                Status::InvalidArgument,
                "no Transaction UID, no references, or one without UIDs; Error Comment says which",
            ),
            (
                Status::NoSuchClass,
                "the Requested SOP Class UID is not Storage Commitment Push Model",
            ),
            CONTEXT,
            (Status::NoSuchAction, "the Action Type ID is not 1"),
            ROLE,
            (Status::DuplicateTransaction, "the Transaction UID is in use for other instances"),
            (
                Status::ResourceLimitation,
                "more than 100,000 references; the database is not there, or another operation of the association runs: try again later",
            ),
        ],
    ),
    (
        Operation::EventReport,
        &[(Status::UnrecognizedOperation, "always: reports are made here, not taken")],
    ),
    (
        Operation::Unrecognized,
        &[(Status::UnrecognizedOperation, "a command that is not served")],
    ),
];

impl Response {
    /// What it answers.
    pub fn operation(&self) -> Operation {
        match self {
            Response::Echo(_) => Operation::Echo,
            Response::Store(_) => Operation::Store,
            Response::Find(_) => Operation::Find,
            Response::Move(_) => Operation::Move,
            Response::Get(_) => Operation::Get,
            Response::Action(_) => Operation::Action,
            Response::EventReport(_) => Operation::EventReport,
            Response::Unrecognized { .. } => Operation::Unrecognized,
        }
    }

    /// Its status.
    pub fn status(&self) -> Status {
        match self {
            Response::Echo(echo) => echo.status,
            Response::Store(store) => store.status,
            Response::Find(find) => find.status,
            Response::Move(retrieve) => retrieve.retrieve.status,
            Response::Get(retrieve) => retrieve.retrieve.status,
            Response::Action(action) => action.status,
            Response::EventReport(report) => report.status,
            Response::Unrecognized { status, .. } => *status,
        }
    }

    /// Whether [`ANSWERS`] has its status.
    pub fn is_documented(&self) -> bool {
        let mut answers = ANSWERS.iter().filter(|(operation, _)| *operation == self.operation());
        answers.any(|(_, answers)| answers.iter().any(|(status, _)| *status == self.status()))
    }
}
