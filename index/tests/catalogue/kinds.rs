//! What nearly all objects share is on record once, also of catalogues that were made before.

use filmroom_index::catalogue::{Arrival, CopyStanding, Outcome};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::database::{Database, Kind};
use crate::objects::{Changed, node, slice};
use crate::store::{store, store_all};

/// The last version without kinds.
const BEFORE: i64 = 19;

/// More than a catalogue keeps in mind.
const MANY: u32 = 1100;

pub(crate) async fn objects_of_one_kind_share_a_row(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=20).map(|instance| slice(1, 1, instance)).collect();
    store_all(&catalogue, &batch).await;
    store(&catalogue, &slice(2, 1, 1)).await;
    assert_eq!(database.number("SELECT count(*) FROM kinds").await, 1);
    store(&catalogue, &slice(2, 1, 2).sent_by("PACS2")).await;
    // Opened again, it knows nothing, and finds it.
    catalogue.close().await;
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(3, 1, 1), slice(3, 1, 2).sent_by("PACS2")]).await;
    assert_eq!(database.number("SELECT count(*) FROM kinds").await, 2);
    assert_eq!(
        database.number("SELECT CAST(max(id) AS BIGINT) FROM kinds").await,
        2,
        "no number is used up"
    );
    let of_ct1 = "SELECT count(*) FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE ki.source = 'CT1'
                  AND ki.sop_class_uid = '1.2.840.10008.5.1.4.1.1.2' AND ki.transfer_syntax = '1.2.840.10008.1.2.1'";
    assert_eq!(database.number(of_ct1).await, 22);
}

pub(crate) async fn more_kinds_than_are_kept_in_mind_are_told_apart(database: Database) {
    let catalogue = database.open().await;
    let source = |instance: u32| format!("A{instance}");
    let batch: Vec<Arrival> = (1..=MANY)
        .map(|instance| slice(1, 1, instance).sent_by(&source(instance)))
        .collect();
    for part in [&batch[..1], &batch[1..600], &batch[600..]] {
        store_all(&catalogue, part).await;
    }
    let again: Vec<Arrival> = (1..=MANY)
        .map(|instance| slice(2, 1, instance).sent_by(&source(instance)))
        .collect();
    store_all(&catalogue, &again).await;
    assert_eq!(database.number("SELECT count(*) FROM kinds").await, i64::from(MANY));
    let right = "SELECT count(*) FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE ki.source = 'A' || o.instance_number";
    assert_eq!(database.number(right).await, 2 * i64::from(MANY));
}

pub(crate) async fn nodes_that_meet_one_new_kind_at_once_share_it(database: Database) {
    let nodes = [database.open().await, database.open().await];
    for round in 1..=20 {
        // In either order, so that nobody waits in a circle.
        let mut sources = [format!("X{round}"), format!("Y{round}"), format!("Z{round}")];
        let storing: Vec<_> = (1..)
            .zip(&nodes)
            .map(|(number, catalogue)| {
                sources.reverse();
                let arrivals = (1..)
                    .zip(&sources)
                    .map(|(instance, source)| slice(round, number, instance).sent_by(source));
                let (catalogue, batch) = (catalogue.clone(), arrivals.collect::<Vec<_>>());
                tokio::spawn(async move { catalogue.ingest(node(number.into()), &batch).await })
            })
            .collect();
        for stored in storing {
            for outcome in stored.await.unwrap() {
                assert_eq!(outcome.unwrap(), Outcome::Served);
            }
        }
        assert_eq!(database.number("SELECT count(*) FROM kinds").await, 3 * i64::from(round));
    }
    assert_eq!(
        database
            .number("SELECT count(*) FROM objects o JOIN kinds ki ON ki.id = o.kind")
            .await,
        120
    );
    database.counts_are_right().await;
}

pub(crate) async fn a_kind_that_the_database_lost_is_made_again(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    // As a server that takes over without the last commits.
    let lost = "DELETE FROM kinds";
    database.run(&format!("PRAGMA foreign_keys = off; {lost}"), lost).await;
    assert_eq!(store(&catalogue, &slice(1, 1, 2)).await, Outcome::Served);
    let right = "SELECT count(*) FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE o.instance_number = 2";
    assert_eq!(database.number(right).await, 1);
}

/// Makes the database as the last version without kinds did.
async fn make_before(database: &Database) {
    let (sqlite, postgres) = (sqlx::migrate!("migrations/sqlite"), sqlx::migrate!("migrations/postgres"));
    let until = |all: &Migrator| Migrator::with_migrations(all.iter().filter(|one| one.version <= BEFORE).cloned().collect());
    let url = database.url();
    match &database.kind {
        Kind::Sqlite => {
            let path = url.trim_start_matches("sqlite:");
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            let mut connection = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
            until(&sqlite).run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Kind::Postgres(_) => {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            until(&postgres).run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

pub(crate) async fn a_copy_that_is_not_complete_is_brought_up_to_date_whatever_it_holds(database: Database) {
    let Kind::Postgres(_) = database.kind else { return };
    make_before(&database).await;
    // Rows of two moments: one version was served, and then another one.
    let copied = |id: i64| {
        format!(
            "INSERT INTO objects (series, object_id, sop_instance_uid, state, crc32, length, received_at, header, header_partial,
                                  sop_class_uid, transfer_syntax, source)
             VALUES (1, CAST('{id:032x}' AS UUID), '1.1', 'served', 1, 2, {id}, '', 0, '1.9.1', '1.8.1', 'CT1')"
        )
    };
    let target = format!(
        "DROP INDEX objects_by_sop_instance; ALTER TABLE objects DROP CONSTRAINT objects_series_fkey; {}; {};
         INSERT INTO copies (id, copy, role, peer, started_at) VALUES (1, CAST('{:032x}' AS UUID), 'target', 'embedded', 1)",
        copied(1),
        copied(2),
        3
    );
    database.run("", &target).await;
    let catalogue = database.open().await;
    assert_eq!(catalogue.copy_standing().await.unwrap(), CopyStanding::Incomplete);
    assert_eq!(database.number("SELECT count(*) FROM objects").await, 2);
}

/// All that is on record of an object, but for its kind; and its kind.
async fn told(database: &Database, object: i64, from: &str) -> String {
    let rest = match &database.kind {
        Kind::Sqlite => {
            "hex(o.object_id) || coalesce(hex(o.counterpart), '-') || ' ' || coalesce(hex(o.sha256), '-') || ' ' || hex(o.header)"
        }
        Kind::Postgres(_) => {
            "upper(replace(CAST(o.object_id AS TEXT), '-', '') || coalesce(replace(CAST(o.counterpart AS TEXT), '-', ''), '-') || ' '
             || coalesce(encode(o.sha256, 'hex'), '-') || ' ' || encode(o.header, 'hex'))"
        }
    };
    let numbers = [
        "instance_number",
        "crc32",
        "length",
        "received_at",
        "header_partial",
        "pack",
        "pack_offset",
    ];
    let numbers = numbers
        .map(|column| format!("coalesce(CAST(o.{column} AS TEXT), '-')"))
        .join(" || ' ' || ");
    let sql = format!(
        "SELECT o.id || ' ' || o.series || ' ' || {numbers} || ' ' || o.sop_instance_uid || ' ' || o.state || ' ' || o.reason || ' ' || {rest}
                || ' ' || ki.sop_class_uid || ' ' || ki.transfer_syntax || ' ' || ki.source FROM {from} WHERE o.id = {object}"
    );
    database.text(&sql).await
}

pub(crate) async fn what_was_on_record_before_there_were_kinds_stays(database: Database) {
    make_before(&database).await;
    let digest = match &database.kind {
        Kind::Sqlite => "zeroblob(32)",
        Kind::Postgres(_) => "decode(repeat('00', 32), 'hex')",
    };
    let uuid = |number: u8| match &database.kind {
        Kind::Sqlite => format!("x'{number:032x}'"),
        Kind::Postgres(_) => format!("CAST('{number:032x}' AS UUID)"),
    };
    let header = match &database.kind {
        Kind::Sqlite => "x'0102'",
        Kind::Postgres(_) => "CAST('\\x0102' AS BYTEA)",
    };
    let rows = [
        format!("nodes (node_id, first_seen) VALUES ({}, 1)", uuid(77)),
        "patients (patient_id, issuer, own_study, name, name_folded, birth_date, sex) VALUES ('P1', '', '', '', '', '', '')".to_owned(),
        format!(
            "studies (patient, study_uid, study_date, study_time, accession_number, study_id, description, referring, referring_folded, header)
             VALUES (1, '1.2.1', '', '', '', '', '', '', '', {header})"
        ),
        format!(
            "series (study, series_uid, modality, description, body_part, series_date, series_time, header)
             VALUES (1, '1.2.1.1', 'CT', '', '', '', '', {header})"
        ),
    ];
    for row in rows {
        let sql = format!("INSERT INTO {row}");
        database.run(&sql, &sql).await;
    }
    let columns =
        "series, object_id, sop_instance_uid, instance_number, state, reason, counterpart, sha256, crc32, length, received_at, header,
                   header_partial, pack, pack_offset, sop_class_uid, transfer_syntax, source";
    let objects = [
        format!(
            "{}, '1.1', 7, 'served', '', {}, {digest}, 4294967295, 500000, 10, {header}, 0, 5, 40, '1.9.1', '1.8.1', 'CT1'",
            uuid(1),
            uuid(2)
        ),
        format!(
            "{}, '1.1', 7, 'superseded', '', NULL, {digest}, 0, 400000, 9, {header}, 1, NULL, NULL, '1.9.1', '1.8.1', 'CT1'",
            uuid(2)
        ),
        format!(
            "{}, '1.2', NULL, 'quarantined', 'why', NULL, NULL, NULL, 1, 11, {header}, 0, NULL, NULL, '1.9.1', '1.8.1', 'CT2'",
            uuid(3)
        ),
        format!(
            "{}, '1.3', -1, 'deleted', '', {}, {digest}, 1, 1, 12, {header}, 0, NULL, NULL, '1.9.1', '1.8.2', 'CT1'",
            uuid(4),
            uuid(1)
        ),
        format!(
            "{}, '1.4', 2, 'served', '', NULL, {digest}, 1, 1, 13, {header}, 0, NULL, NULL, '1.9.2', '1.8.1', 'CT1'",
            uuid(5)
        ),
    ];
    for object in &objects {
        let sql = format!("INSERT INTO objects ({columns}) VALUES (1, {object})");
        database.run(&sql, &sql).await;
    }
    let others = "DELETE FROM objects WHERE id = 4; INSERT INTO hot_copies (object, node) VALUES (1, 1), (5, 1);
                  INSERT INTO rejections (object, note_uid, code, state) VALUES (5, '1.4', '113001', 'obeyed')";
    database.run(others, others).await;
    let left = [1, 2, 3, 5];
    let mut before = Vec::new();
    for object in left {
        before.push(told(&database, object, "objects o JOIN objects ki ON ki.id = o.id").await);
    }

    let catalogue = database.open().await;
    for (object, before) in left.into_iter().zip(before) {
        assert_eq!(told(&database, object, "objects o JOIN kinds ki ON ki.id = o.kind").await, before);
    }
    assert_eq!(database.number("SELECT count(*) FROM objects").await, 4);
    assert_eq!(database.number("SELECT count(*) FROM kinds").await, 3);
    // What refers to objects does so still, and so does what they refer to.
    for (what, change) in [
        ("a hot copy", "DELETE FROM objects WHERE id = 1"),
        ("a note", "DELETE FROM objects WHERE id = 5"),
        ("a hot copy of nothing", "INSERT INTO hot_copies (object, node) VALUES (4, 1)"),
        ("no such series", "UPDATE objects SET series = 9"),
        ("no other state", "UPDATE objects SET state = 'lost'"),
        ("a place without a pack", "UPDATE objects SET pack = NULL"),
        ("served twice", "UPDATE objects SET state = 'served'"),
        (
            "one id twice",
            "UPDATE objects SET object_id = (SELECT object_id FROM objects WHERE id = 1)",
        ),
        ("no kind", "UPDATE objects SET kind = NULL"),
    ] {
        // SQLite asks for foreign keys in each connection; sqlx does.
        assert!(database.try_run(change, change).await.is_err(), "{what}");
    }
    if let Kind::Sqlite = database.kind {
        assert_eq!(database.text("PRAGMA integrity_check").await, "ok");
        assert_eq!(database.number("SELECT count(*) FROM pragma_foreign_key_check").await, 0);
    }
    // Row ids go on.
    assert_eq!(store(&catalogue, &slice(2, 1, 1)).await, Outcome::Served);
    assert_eq!(database.number("SELECT max(id) FROM objects").await, 6);
    assert_eq!(database.number("SELECT count(*) FROM kinds").await, 4);
}
