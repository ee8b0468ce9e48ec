//! The audit and its way to other systems.

use std::time::Duration;

use filmroom_index::catalogue::{AuditEvent, AuditOutcome, AuditRecord, Catalogue, Error, Horizon};
use filmroom_index::model::Timestamp;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::database::{Database, Kind};
use crate::objects::{node, slice, tick};
use crate::store::store;

const LEASE: Duration = Duration::from_secs(60);
const TARGET: &str = "udp://127.0.0.1:514";

async fn write(catalogue: &Catalogue, actor: &str) {
    catalogue.audit(&[AuditEvent::new(tick(), "echo", actor)]).await.unwrap();
}

/// Everything that a node may export now, as the target's position says.
async fn exportable(catalogue: &Catalogue, from: u128, horizon: &mut Horizon) -> Vec<AuditRecord> {
    let claim = catalogue
        .claim_audit_target(node(from), TARGET, false, LEASE)
        .await
        .unwrap()
        .unwrap();
    catalogue.audit_to_export(&claim, horizon, 1000).await.unwrap()
}

/// The same once the database says that nothing is still to come.
async fn exported(catalogue: &Catalogue, from: u128, count: usize) -> Vec<AuditRecord> {
    let mut horizon = Horizon::default();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        // Other tests have transactions on the same server: what they may bring is waited for.
        let rows = exportable(catalogue, from, &mut horizon).await;
        if rows.len() >= count || std::time::Instant::now() > deadline {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn an_event_is_written_with_the_patient_of_its_study(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    let event = AuditEvent {
        user: "alice".to_owned(),
        address: "10.0.0.5".to_owned(),
        destination: "VIEWER".to_owned(),
        study_uid: arrival.study.to_string(),
        outcome: AuditOutcome::Minor,
        instances: 3,
        sop_class: "1.2".to_owned(),
        query: vec![1, 2, 0, 255],
        detail: "3 of 4".to_owned(),
        ..AuditEvent::new(tick(), "move", "CONSOLE")
    };
    let other = AuditEvent {
        patient_id: "P2".to_owned(),
        query: vec![0; 10_000],
        ..event.clone()
    };
    catalogue.audit(&[event.clone(), other]).await.unwrap();
    let rows = exported(&catalogue, 1, 3).await;
    let (store, moved, other) = (&rows[0], &rows[1], &rows[2]);
    assert_eq!(
        (store.action.as_str(), store.patient_id.as_str(), store.instances),
        ("store", "P1", 1)
    );
    let expected = AuditRecord {
        id: moved.id,
        at: event.at,
        action: "move".to_owned(),
        actor: event.actor,
        user: event.user,
        address: event.address,
        destination: event.destination,
        patient_id: "P1".to_owned(),
        study_uid: event.study_uid,
        outcome: event.outcome,
        instances: event.instances,
        sop_class: event.sop_class,
        query: event.query,
        detail: event.detail,
    };
    assert_eq!(*moved, expected);
    assert_eq!(other.patient_id, "P2");
    assert!(other.query.is_empty(), "a part of an identifier is none");
}

pub(crate) async fn a_target_gets_every_row_once_its_turn_has_come(database: Database) {
    let catalogue = database.open().await;
    write(&catalogue, "A").await;
    let mut claim = catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap().unwrap();
    let rows = exported(&catalogue, 1, 1).await;
    assert_eq!(rows.len(), 1);
    // What was claimed again meanwhile is another claim.
    assert!(matches!(
        catalogue.audit_exported(&mut claim, rows[0].id, LEASE).await,
        Err(Error::LeaseLost)
    ));
    let mut claim = catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap().unwrap();
    let lag = catalogue.audit_lag(Timestamp(0)).await.unwrap();
    assert_eq!((lag[0].target.as_str(), lag[0].rows, lag[0].oldest), (TARGET, 1, Some(rows[0].at)));
    catalogue.audit_export_failed(&claim, "connection refused").await.unwrap();
    assert_eq!(catalogue.audit_lag(Timestamp(0)).await.unwrap()[0].error, "connection refused");
    catalogue.audit_exported(&mut claim, rows[0].id, LEASE).await.unwrap();
    let lag = catalogue.audit_lag(Timestamp(0)).await.unwrap();
    assert_eq!((lag[0].rows, lag[0].oldest, lag[0].error.as_str()), (0, None, ""));
    // Back is no direction.
    assert!(matches!(
        catalogue.audit_exported(&mut claim, 0, LEASE).await,
        Err(Error::LeaseLost)
    ));

    write(&catalogue, "B").await;
    let rows = exported(&catalogue, 1, 1).await;
    assert_eq!(rows.iter().map(|row| row.actor.as_str()).collect::<Vec<_>>(), ["B"]);
    // A new target gets what there is, or, where it is told so, what comes.
    let all = catalogue
        .claim_audit_target(node(1), "file:/a", false, LEASE)
        .await
        .unwrap()
        .unwrap();
    let new = catalogue
        .claim_audit_target(node(1), "file:/b", true, LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((all.position, new.position), (0, rows[0].id));
}

pub(crate) async fn a_row_that_commits_late_is_not_passed_over(database: Database) {
    const LATE: &str =
        "INSERT INTO audit (at, action, actor, address, patient_id, study_uid, detail) VALUES (1, 'echo', 'LATE', '', '', '', '')";
    let catalogue = database.open().await;
    let early = catalogue.clone();
    match &database.kind {
        Kind::Postgres(_) => {
            // It has taken its id, and does not commit yet.
            let mut late = PgConnection::connect(&database.url()).await.unwrap();
            sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()")
                .execute(&mut late)
                .await
                .unwrap();
            sqlx::raw_sql(LATE).execute(&mut late).await.unwrap();
            write(&early, "EARLY").await;
            let mut horizon = Horizon::default();
            for _ in 0..20 {
                assert_eq!(exportable(&catalogue, 1, &mut horizon).await, [], "a smaller id may still come");
            }
            sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
        }
        Kind::Sqlite => {
            let mut late = SqliteConnection::connect(&database.url()).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut late).await.unwrap();
            let writing = tokio::spawn(async move { write(&early, "EARLY").await });
            sqlx::raw_sql(LATE).execute(&mut late).await.unwrap();
            sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
            writing.await.unwrap();
        }
    }
    let rows = exported(&catalogue, 1, 2).await;
    assert_eq!(rows.iter().map(|row| row.actor.as_str()).collect::<Vec<_>>(), ["LATE", "EARLY"]);
}

pub(crate) async fn a_row_of_the_youngest_transaction_is_not_passed_over(database: Database) {
    let row = |actor: &str| {
        format!(
            "INSERT INTO audit (at, action, actor, address, patient_id, study_uid, detail) VALUES (1, 'echo', '{actor}', '', '', '', '')"
        )
    };
    let catalogue = database.open().await;
    match &database.kind {
        Kind::Postgres(_) => {
            // Before: it would end a transaction above them.
            let claim = catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap().unwrap();
            let mut early = PgConnection::connect(&database.url()).await.unwrap();
            let mut late = PgConnection::connect(&database.url()).await.unwrap();
            for transaction in [&mut early, &mut late] {
                let begin = "BEGIN; SELECT pg_current_xact_id()";
                sqlx::raw_sql(begin).execute(transaction).await.unwrap();
            }
            // No transaction above LATE has ended: it is beyond every snapshot, and has the smaller id.
            sqlx::raw_sql(AssertSqlSafe(row("LATE"))).execute(&mut late).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(row("EARLY"))).execute(&mut early).await.unwrap();
            sqlx::raw_sql("COMMIT").execute(&mut early).await.unwrap();
            let mut horizon = Horizon::default();
            for _ in 0..20 {
                let rows = catalogue.audit_to_export(&claim, &mut horizon, 1000).await.unwrap();
                assert_eq!(rows, [], "a smaller id may still come");
            }
            sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
        }
        Kind::Sqlite => {
            // It has one writer: ids are in the order of commits.
            let sql = format!("{}; {}", row("LATE"), row("EARLY"));
            database.run(&sql, "").await;
        }
    }
    let rows = exported(&catalogue, 1, 2).await;
    assert_eq!(rows.iter().map(|row| row.actor.as_str()).collect::<Vec<_>>(), ["LATE", "EARLY"]);
}

pub(crate) async fn a_target_is_exported_to_by_one_node_at_a_time(database: Database) {
    let catalogue = database.open().await;
    write(&catalogue, "A").await;
    let mut first = catalogue
        .claim_audit_target(node(1), TARGET, false, Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    // Its lease is over: another goes on, and the first is told.
    let second = catalogue.claim_audit_target(node(2), TARGET, false, LEASE).await.unwrap().unwrap();
    assert!(matches!(
        catalogue.audit_exported(&mut first, 1, LEASE).await,
        Err(Error::LeaseLost)
    ));
    assert_eq!(catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap(), None);
    catalogue.release_audit_target(&second).await.unwrap();
    assert!(catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap().is_some());
    assert_eq!(catalogue.audit_lag(Timestamp(0)).await.unwrap()[0].node, Some(node(1)));
}

pub(crate) async fn what_every_target_has_got_may_be_removed(database: Database) {
    let catalogue = database.open().await;
    for actor in ["A", "B", "C", "D"] {
        write(&catalogue, actor).await;
    }
    let rows = exported(&catalogue, 1, 4).await;
    let after = Timestamp(rows[3].at.0 + 1);
    let mut one = catalogue.claim_audit_target(node(1), TARGET, false, LEASE).await.unwrap().unwrap();
    assert_eq!(
        catalogue.remove_exported_audit(after, Timestamp(0), 100).await.unwrap(),
        0,
        "nothing was exported"
    );
    catalogue.audit_exported(&mut one, rows[3].id, LEASE).await.unwrap();
    let mut other = catalogue
        .claim_audit_target(node(1), "file:/a", false, LEASE)
        .await
        .unwrap()
        .unwrap();
    catalogue.audit_exported(&mut other, rows[1].id, LEASE).await.unwrap();
    assert_eq!(
        catalogue.remove_exported_audit(rows[1].at, Timestamp(0), 100).await.unwrap(),
        1,
        "older than the second"
    );
    assert_eq!(
        catalogue.remove_exported_audit(after, Timestamp(0), 100).await.unwrap(),
        1,
        "what both have"
    );
    catalogue.audit_exported(&mut other, rows[3].id, LEASE).await.unwrap();
    assert_eq!(catalogue.remove_exported_audit(after, Timestamp(0), 100).await.unwrap(), 1);
    assert_eq!(database.text("SELECT actor FROM audit").await, "D", "the last row stays");
    write(&catalogue, "E").await;
    assert_eq!(exported(&catalogue, 1, 1).await[0].actor, "E");
}
