//! Opening, closing and the schema.

use filmroom_index::catalogue::{Catalogue, Error};

use crate::database::Database;

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
