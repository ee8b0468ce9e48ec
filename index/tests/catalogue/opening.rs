//! Opening, closing and the schema.

use filmroom_index::catalogue::{Catalogue, Error};

use crate::database::{Database, Kind};
use crate::objects::slice;
use crate::store::store_all;

pub(crate) async fn a_catalogue_is_made_where_there_is_none_and_opened_again(database: Database) {
    for _ in 0..2 {
        let catalogue = database.open().await;
        catalogue.ping().await.unwrap();
        catalogue.close().await;
        assert!(matches!(catalogue.ping().await, Err(Error::Unavailable(_))));
    }
}

pub(crate) async fn a_newer_schema_is_refused(database: Database) {
    database.open().await.close().await;
    let columns = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)";
    database
        .run(
            &format!("{columns} VALUES (77, 'newer', 1, x'00', 0)"),
            &format!("{columns} VALUES (77, 'newer', true, '\\x00', 0)"),
        )
        .await;
    match Catalogue::open(&database.url()).await {
        Err(Error::SchemaTooNew { found: 77, known: 1.. }) => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn processes_that_start_together_make_one_schema(database: Database) {
    let url = database.url();
    let opening = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Catalogue::open(&url).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        let catalogue = opened.await.unwrap().unwrap();
        catalogue.ping().await.unwrap();
        catalogue.close().await;
    }
}

pub(crate) async fn a_digest_may_be_unknown_and_is_no_other_length(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 1)]).await;
    let unknown = "UPDATE objects SET sha256 = NULL, crc32 = NULL";
    database.run(unknown, unknown).await;
    assert_eq!(
        database
            .number("SELECT count(*) FROM objects WHERE sha256 IS NULL AND crc32 IS NULL")
            .await,
        1
    );
    let known = database.try_run(
        "UPDATE objects SET sha256 = zeroblob(32)",
        "UPDATE objects SET sha256 = decode(repeat('00', 32), 'hex')",
    );
    known.await.unwrap();
    let short = database
        .try_run("UPDATE objects SET sha256 = x'00'", "UPDATE objects SET sha256 = '\\x00'")
        .await;
    assert!(
        short.unwrap_err().to_lowercase().contains("check constraint"),
        "an SHA-256 has 32 bytes"
    );
    if let Kind::Sqlite = database.kind {
        assert_eq!(database.text("PRAGMA integrity_check").await, "ok");
        assert_eq!(database.number("SELECT count(*) FROM pragma_foreign_key_check").await, 0);
        let gone = database.try_run("DELETE FROM objects", "").await;
        assert!(gone.unwrap_err().contains("FOREIGN KEY"), "what refers to objects still does");
    }
}
