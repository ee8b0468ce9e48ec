//! Moving in from another PACS: what is asked, what is found, who works on it, and that nothing of it is lost.

use std::time::Duration;

use filmroom_index::catalogue::{
    AuditEvent, Catalogue, Error, FoundStudy, MIGRATION_ATTEMPTS, MigrationClaim, MigrationState, NewMigration, RetrieveService, Selection,
    StudyEnd, StudyVerdict, StudyWindow, WindowOutcome,
};
use filmroom_index::model::{AeTitle, ServingState, Uid};

use crate::database::Database;
use crate::objects::{node, slice, tick};
use crate::store::store_all;

const LEASE: Duration = Duration::from_secs(600);

fn remote() -> AeTitle {
    AeTitle::parse("OLDPACS").unwrap()
}

fn event() -> AuditEvent {
    AuditEvent::new(tick(), "migrate", "")
}

fn window(study_date: &str) -> StudyWindow {
    StudyWindow {
        study_date: study_date.into(),
        ..StudyWindow::default()
    }
}

fn study(number: u32, date: &str) -> FoundStudy {
    FoundStudy {
        study_uid: Uid::parse(&format!("1.7.{number}")).unwrap(),
        study_date: date.into(),
        patient_id: format!("P{number}"),
        accession_number: String::new(),
        told: Some(3),
    }
}

fn end(verdict: StudyVerdict) -> StudyEnd {
    StudyEnd {
        verdict,
        images: 3,
        here: 3,
    }
}

async fn open(catalogue: &Catalogue, oldest_first: bool, windows: &[StudyWindow]) -> bool {
    let new = NewMigration {
        remote: remote(),
        how: RetrieveService::Get,
        oldest_first,
        selection: Selection {
            from: "20010101".into(),
            modalities: vec!["CT".into(), "MR".into()],
            patients: vec!["A".into(), "B C".into()],
            ..Selection::default()
        },
    };
    catalogue.open_migration(&new, windows, &event()).await.unwrap()
}

async fn claim(catalogue: &Catalogue, number: u128) -> Option<MigrationClaim> {
    catalogue.claim_migration(node(number), LEASE, &[]).await.unwrap()
}

/// A claimed migration that has told of some studies.
async fn found(catalogue: &Catalogue, oldest_first: bool, studies: &[FoundStudy]) -> MigrationClaim {
    assert!(open(catalogue, oldest_first, &[window("")]).await);
    let claim = claim(catalogue, 1).await.unwrap();
    let asked = catalogue.next_window(&claim).await.unwrap().unwrap();
    let added = catalogue
        .window_asked(&claim, &asked, studies, &WindowOutcome::Answered)
        .await
        .unwrap();
    assert_eq!(added, studies.len() as u64);
    claim
}

pub(crate) async fn a_question_is_gone_only_with_its_answer_on_record(database: Database) {
    let catalogue = database.open().await;
    assert!(open(&catalogue, false, &[window("")]).await);
    assert!(
        !open(&catalogue, false, &[window("")]).await,
        "one migration from a remote at a time"
    );
    let claim = claim(&catalogue, 1).await.unwrap();
    assert_eq!(
        (claim.asked.selection.patients.len(), claim.asked.selection.modalities.len()),
        (2, 2)
    );
    let root = catalogue.next_window(&claim).await.unwrap().unwrap();
    let parts = vec![
        window("20010101-20011231"),
        window("20020101-20021231"),
        StudyWindow { turn: 1, ..window("") },
    ];
    let known = [study(1, "20020202"), study(2, "")];
    let added = catalogue
        .window_asked(&claim, &root, &known, &WindowOutcome::Split(parts))
        .await
        .unwrap();
    assert_eq!(added, 2);
    // The newest dates first, and each turn after the one before it.
    let mut asked = Vec::new();
    while let Some(open) = catalogue.next_window(&claim).await.unwrap() {
        asked.push(open.window.study_date.clone());
        let outcome = match open.window.turn {
            0 => WindowOutcome::Answered,
            _ => WindowOutcome::Incomplete("it said no".into()),
        };
        // A study that was told of before is no other study.
        let again = catalogue
            .window_asked(&claim, &open, &[study(1, "20020202"), study(3, "20010101")], &outcome)
            .await
            .unwrap();
        assert_eq!(again, u64::from(asked.len() == 1));
    }
    assert_eq!(asked, ["20020101-20021231", "20010101-20011231", ""]);
    let summary = catalogue.last_migration(&remote()).await.unwrap().unwrap();
    assert_eq!((summary.windows, summary.incomplete, summary.tally.queued), (0, 1, 3));
    let incomplete = catalogue.incomplete_windows(claim.key, 10).await.unwrap();
    assert_eq!(incomplete[0].1, "it said no");
}

pub(crate) async fn studies_come_by_date_and_each_has_its_end(database: Database) {
    let catalogue = database.open().await;
    for oldest_first in [false, true] {
        let claim = found(
            &catalogue,
            oldest_first,
            &[study(1, "20010101"), study(2, "20030101"), study(3, "")],
        )
        .await;
        assert!(!catalogue.end_migration(&claim, &event()).await.unwrap());
        let mut order = Vec::new();
        while let Some(begun) = catalogue.begin_study(&claim).await.unwrap() {
            order.push(begun.study_uid.to_string());
            let verdict = match order.len() {
                1 => StudyVerdict::Done,
                2 if begun.attempts == 1 => StudyVerdict::Again("not yet".into(), Duration::ZERO),
                _ => StudyVerdict::Failed("never".into()),
            };
            catalogue.end_study(&claim, &begun, &end(verdict)).await.unwrap();
        }
        let expected = if oldest_first {
            ["1.7.3", "1.7.1", "1.7.1", "1.7.2"]
        } else {
            ["1.7.2", "1.7.1", "1.7.1", "1.7.3"]
        };
        assert_eq!(order, expected);
        assert!(catalogue.end_migration(&claim, &event()).await.unwrap());
        let summary = catalogue.last_migration(&remote()).await.unwrap().unwrap();
        assert_eq!(
            (summary.state, summary.tally.done, summary.tally.failed),
            (MigrationState::Done, 1, 2)
        );
        let failed = catalogue.migration_studies(claim.key, "failed", 0, 10).await.unwrap();
        assert!(failed.iter().all(|study| study.error == "never"));
    }
    // What was given up is tried once more on demand, and the migration runs again.
    assert_eq!(catalogue.retry_migration(&remote(), &event()).await.unwrap(), Some(2));
    let again = claim(&catalogue, 2).await.unwrap();
    let begun = catalogue.begin_study(&again).await.unwrap().unwrap();
    assert_eq!(begun.attempts, 1);
}

pub(crate) async fn whoever_lost_the_lease_or_was_paused_changes_nothing(database: Database) {
    let catalogue = database.open().await;
    let first = found(&catalogue, false, &[study(1, ""), study(2, "")]).await;
    let begun = catalogue.begin_study(&first).await.unwrap().unwrap();
    assert!(claim(&catalogue, 2).await.is_none(), "the lease is held");
    assert!(catalogue.pause_migration(&remote(), &event()).await.unwrap());
    assert!(!catalogue.pause_migration(&remote(), &event()).await.unwrap());
    assert!(claim(&catalogue, 2).await.is_none(), "it is paused");
    let lost = |result: Result<(), Error>| assert!(matches!(result, Err(Error::LeaseLost)), "{result:?}");
    lost(catalogue.end_study(&first, &begun, &end(StudyVerdict::Done)).await);
    lost(catalogue.renew_migration(&first, LEASE).await);
    lost(catalogue.begin_study(&first).await.map(drop));
    assert!(catalogue.resume_migration(&remote(), &event()).await.unwrap());
    let second = claim(&catalogue, 2).await.unwrap();
    // What was on its way is queued again, and the attempt did not count.
    let again = catalogue.begin_study(&second).await.unwrap().unwrap();
    assert_eq!((again.study_uid.clone(), again.attempts), (begun.study_uid, 1));
    lost(catalogue.end_study(&first, &again, &end(StudyVerdict::Done)).await);
    catalogue.end_study(&second, &again, &end(StudyVerdict::Done)).await.unwrap();
    assert!(catalogue.cancel_migration(&remote(), &event()).await.unwrap());
    lost(catalogue.begin_study(&second).await.map(drop));
    assert!(
        open(&catalogue, false, &[window("")]).await,
        "after the end of one there may be another"
    );
}

pub(crate) async fn a_study_at_which_nodes_die_is_given_up_and_a_remote_that_fails_costs_none_an_attempt(database: Database) {
    let catalogue = database.open().await;
    let mut claimed = found(&catalogue, false, &[study(1, "20010101")]).await;
    for failures in 0..3 {
        let begun = catalogue.begin_study(&claimed).await.unwrap().unwrap();
        assert_eq!(begun.attempts, 1);
        catalogue.study_not_begun(&claimed, &begun).await.unwrap();
        catalogue
            .migration_waits(&claimed, Some("connection refused"), Duration::ZERO)
            .await
            .unwrap();
        claimed = claim(&catalogue, 1).await.unwrap();
        assert_eq!(claimed.attempts, failures + 1);
    }
    catalogue.migration_answered(&claimed).await.unwrap();
    for attempt in 1..=MIGRATION_ATTEMPTS {
        let begun = catalogue.begin_study(&claimed).await.unwrap().unwrap();
        assert_eq!(begun.attempts, attempt);
        // kill -9, and a start
        catalogue.release_migrations(node(1)).await.unwrap();
        claimed = claim(&catalogue, 1).await.unwrap();
        assert_eq!(claimed.attempts, 0);
    }
    assert!(catalogue.begin_study(&claimed).await.unwrap().is_none());
    assert!(catalogue.end_migration(&claimed, &event()).await.unwrap());
    let failed = catalogue.migration_studies(claimed.key, "failed", 0, 10).await.unwrap();
    assert!(failed[0].error.contains("the node ended each time"));
}

pub(crate) async fn what_is_here_of_an_instance_is_told_by_its_versions(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(1, 1, 2)];
    store_all(&catalogue, &batch).await;
    let uids: Vec<Uid> = batch.iter().map(|arrival| arrival.sop_instance.clone()).collect();
    let asked = [uids.clone(), vec![Uid::parse("9.9").unwrap()]].concat();
    let versions = catalogue.recorded_versions(&asked).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert!(
        versions
            .iter()
            .all(|version| version.state == ServingState::Served && uids.contains(&version.sop_instance))
    );
    let served = catalogue.served_instances(&versions[0].study_uid).await.unwrap();
    assert_eq!(served.len(), 2);
}
