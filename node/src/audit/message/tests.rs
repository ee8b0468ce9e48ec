use filmroom_index::model::Timestamp;

use super::*;

fn row(action: &str) -> AuditRecord {
    AuditRecord {
        id: 7,
        at: Timestamp(1_795_507_200_123_456),
        action: action.to_owned(),
        actor: "CT1".to_owned(),
        user: String::new(),
        address: "10.0.0.5".to_owned(),
        destination: String::new(),
        patient_id: "P1".to_owned(),
        study_uid: "1.2.3".to_owned(),
        outcome: AuditOutcome::Success,
        instances: 0,
        sop_class: String::new(),
        query: Vec::new(),
        detail: "detail".to_owned(),
    }
}

fn source() -> Source {
    Source {
        ae_title: "FILMROOM".to_owned(),
        host: "node1".to_owned(),
    }
}

fn xml(row: AuditRecord) -> String {
    let mut all = messages(vec![row], &source());
    assert_eq!(all.len(), 1);
    all.remove(0).xml
}

/// The texts that stand behind each occurrence of a beginning, up to the next quote.
fn values<'x>(xml: &'x str, beginning: &str) -> Vec<&'x str> {
    xml.split(beginning).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// PS3.15 A.5.3: event, action, roles and objects that each table requires.
#[test]
fn each_action_is_the_event_of_the_standard_with_what_it_requires() {
    let (source_role, destination_role) = ("110153", "110152");
    let (study, patient) = ("110180", "2");
    for (action, event, code, roles, objects) in [
        ("start", "110100", "E", vec!["110150", "110151"], vec![]),
        ("stop", "110100", "E", vec!["110150", "110151"], vec![]),
        ("store", "110104", "C", vec![source_role, destination_role], vec![study, patient]),
        ("find", "110112", "E", vec![source_role, destination_role], vec!["110181", patient]),
        (
            "move-begun",
            "110102",
            "E",
            vec![source_role, destination_role],
            vec![study, patient],
        ),
        (
            "get-begun",
            "110102",
            "E",
            vec![source_role, destination_role],
            vec![study, patient],
        ),
        ("move", "110104", "R", vec![source_role, destination_role], vec![study, patient]),
        ("get", "110104", "R", vec![source_role, destination_role], vec![study, patient]),
        ("send", "110104", "R", vec![source_role, destination_role], vec![study, patient]),
        ("login", "110114", "E", vec![], vec![]),
        ("refuse", "110113", "E", vec![], vec!["110182", study, patient]),
        ("discarded", "110103", "D", vec![], vec![study, patient]),
        ("accepted", "110103", "U", vec![], vec![study, patient]),
        ("offload", "110103", "U", vec![], vec![study, patient]),
        ("patient-merged", "110110", "U", vec![], vec![study, patient]),
        ("something new", "110103", "U", vec![], vec![study, patient]),
    ] {
        let xml = xml(row(action));
        assert_eq!(values(&xml, "<EventID csd-code=\""), [event], "{action}");
        assert_eq!(values(&xml, "EventActionCode=\""), [code], "{action}");
        assert_eq!(values(&xml, "<RoleIDCode csd-code=\""), roles, "{action}");
        assert_eq!(values(&xml, "<ParticipantObjectIDTypeCode csd-code=\""), objects, "{action}");
        assert_eq!(values(&xml, "EventDateTime=\""), ["2026-11-24T08:00:00.123456Z"]);
        assert!(!xml.contains('\n'));
        if action != "login" {
            assert_eq!(xml.matches("UserIsRequestor=\"true\"").count(), 1, "{action}: {xml}");
        }
    }
}

#[test]
fn a_move_for_a_third_names_all_three_and_the_user() {
    let moved = AuditRecord {
        actor: "CONSOLE".to_owned(),
        user: "alice & \"bob\"".to_owned(),
        destination: "VIEWER".to_owned(),
        outcome: AuditOutcome::Minor,
        instances: 12,
        ..row("move")
    };
    let xml = xml(moved);
    assert_eq!(
        values(&xml, " UserID=\""),
        ["FILMROOM", "VIEWER", "CONSOLE", "alice &amp; &quot;bob&quot;"]
    );
    assert_eq!(values(&xml, "EventOutcomeIndicator=\""), ["4"]);
    assert_eq!(values(&xml, "NumberOfInstances=\""), ["12"]);
    assert_eq!(values(&xml, "AuditSourceID=\""), ["FILMROOM@node1"]);
}

#[test]
fn what_is_the_nodes_own_is_an_import() {
    let imported = AuditRecord {
        actor: "FILMROOM".to_owned(),
        ..row("store")
    };
    let xml = xml(imported);
    assert_eq!(values(&xml, "<EventID csd-code=\""), ["110107"]);
    assert!(xml.contains("<MediaIdentifier>"));
}

#[test]
fn a_query_carries_its_identifier() {
    let asked = AuditRecord {
        sop_class: "1.2.840.10008.5.1.4.1.2.2.1".to_owned(),
        query: vec![0, 255, 1],
        ..row("find")
    };
    let xml = xml(asked);
    assert!(xml.contains("<ParticipantObjectQuery>AP8B</ParticipantObjectQuery>"));
    assert!(xml.contains("ParticipantObjectID=\"1.2.840.10008.5.1.4.1.2.2.1\""));
}

#[test]
fn an_association_that_is_refused_and_a_restricted_destination_are_told_apart() {
    assert_eq!(values(&xml(row("refuse")), "<EventTypeCode csd-code=\""), ["110126"]);
    let restricted = AuditRecord {
        destination: "VIEWER".to_owned(),
        ..row("refuse")
    };
    assert_eq!(values(&xml(restricted), "<EventTypeCode csd-code=\""), ["110132"]);
}

#[test]
fn stores_of_a_study_from_one_sender_are_counted_together() {
    let store = |id: i64, study: &str, instances: u64| AuditRecord {
        id,
        study_uid: study.to_owned(),
        instances,
        detail: format!("{instances} instances"),
        ..row("store")
    };
    let quarantined = AuditRecord {
        outcome: AuditOutcome::Minor,
        detail: "quarantined".to_owned(),
        ..store(4, "1.1", 1)
    };
    let rows = vec![
        store(1, "1.1", 2),
        store(2, "1.2", 1),
        store(3, "1.1", 3),
        quarantined,
        store(5, "1.1", 1),
    ];
    let messages = messages(rows, &source());
    let counted: Vec<_> = messages
        .iter()
        .map(|message| (message.id, values(&message.xml, "NumberOfInstances=\"")[0]))
        .collect();
    assert_eq!(counted, [(5, "6"), (2, "1"), (4, "1")]);
    assert!(messages[2].failed);
}

#[test]
fn the_longest_row_fits_a_datagram() {
    let long = "\"".repeat(1024);
    let row = AuditRecord {
        actor: long.clone(),
        user: long.clone(),
        address: long.clone(),
        destination: long.clone(),
        patient_id: long.clone(),
        study_uid: "1.2\\".repeat(128),
        sop_class: long.clone(),
        query: vec![0; 8192],
        detail: long,
        ..row("move")
    };
    for action in ["move", "find", "refuse", "store", "accepted"] {
        let xml = xml(AuditRecord {
            action: action.to_owned(),
            ..row.clone()
        });
        assert!(xml.len() < 65_000, "{action}: {}", xml.len());
    }
}
